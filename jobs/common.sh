# What every job does: your site's settings, temporary files on the job's own disk, and a
# command that goes on after a time limit, an eviction or a failed node. Sourced, not run.

stm_keras=(stm-keras)
this_job=${SLURM_JOB_ID:-}
if [ -n "${SLURM_ARRAY_TASK_ID:-}" ]; then # the last task of an array bears the array's own number
    this_job=${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}
fi
site=${STM_KERAS_SITE:-jobs/site.sh}
if [ -f "$site" ]; then
    . "$site"
fi
if declare -F site_setup >/dev/null; then
    site_setup
fi

# Nothing temporary on a shared file system: many jobs at once would wait for it, and for one another.
scratch=$(mktemp -d "${SLURM_TMPDIR:-${TMPDIR:-/tmp}}/stm-keras-${this_job:-local}-XXXXXX") || exit 1
trap 'rm -rf "$scratch"' EXIT
export TMPDIR=$scratch
export KERAS_HOME=$scratch/keras MPLCONFIGDIR=$scratch/matplotlib XDG_CACHE_HOME=$scratch/cache
export JAX_COMPILATION_CACHE_DIR=$scratch/jax TORCHINDUCTOR_CACHE_DIR=$scratch/torch TRITON_CACHE_DIR=$scratch/triton

# run_and_requeue COMMAND...: run it and pass SLURM's signals on to it. Where it stops in good order
# because it was asked to (exit code 75), or the signal ended it, the job queues itself again; the
# same command goes on.
run_and_requeue() {
    local code asked=
    trap 'forward_signal USR1' USR1
    trap 'forward_signal TERM' TERM
    "$@" & child=$! # bash runs traps while it waits, not while a command runs before its eyes
    while :; do
        wait "$child"
        code=$?
        [ "$code" -gt 128 ] && kill -0 "$child" 2>/dev/null || break # a trap ran: wait again
    done
    if [ "$code" -gt 128 ]; then # a trap may have run in the moment in which the command ended
        wait "$child" 2>/dev/null
        local again=$?
        [ "$again" = 127 ] || [ "$again" -lt 0 ] || code=$again # bash has forgotten it, in two ways
    fi
    echo "start ${SLURM_RESTART_COUNT:-0} of job ${this_job:-none} ended with exit code $code"
    if [ -n "$this_job" ] && { [ "$code" = 75 ] || [ "$code" -gt 128 -a -n "$asked" ]; }; then
        requeue
    fi
    exit "$code"
}

keep_going() { run_and_requeue "$@"; } # its name in jobs that 0.1.0 queued, which wait with their own script

forward_signal() {
    echo "SIG$1 received; forwarding it"
    asked=$1
    kill -"$1" "$child" 2>/dev/null
}

requeue() {
    local restarts=${SLURM_RESTART_COUNT:-0} most=${STM_KERAS_MAX_RESTARTS:-50}
    if [ "$restarts" -ge "$most" ]; then
        echo "Error: started again $restarts times already. Look at the log above, then: sbatch as before." >&2
        exit 1
    fi
    # Cancelled by its owner (scancel): stay so. Exit 0 or 1 after an eviction would be final, too.
    case $(scontrol -o show job "$this_job" 2>/dev/null) in
        *JobState=RUNNING*) ;;
        *) return ;;
    esac
    if scontrol requeue "$this_job"; then
        sleep 120 # SLURM ends this script
        exit 75
    fi
    echo "Error: this site lets no job queue itself again. Queue it anew to go on: sbatch as before." >&2
}
