#!/usr/bin/env bash
# A real SLURM on this machine alone, to throw away: a controller and several made-up nodes.
#     apt-get install -y --no-install-recommends slurm-wlm munge
#     eval "$(tests/slurm/cluster.sh env)"; tests/slurm/cluster.sh start; sinfo; ...; tests/slurm/cluster.sh wipe
# Needs no systemd and no cgroups, touches nothing outside $SLURM_LOCAL_ROOT, works as root and as a user.
# Partitions: main, and scavenge, whose jobs are evicted for those of main with 20 s of grace.
set -euo pipefail
root=${SLURM_LOCAL_ROOT:-/tmp/stm-slurm-$UID} # short: a socket's path has at most 107 characters
nodes=${NODES:-2}
cpus=${CPUS:-5}
port=${BASE_PORT:-26817}
host=$(hostname -s)
me=$(id -un)
PATH=$PATH:/usr/sbin:/sbin
export SLURM_CONF=$root/slurm.conf

configure() {
    mkdir -p "$root"/{state,log,run,gpu}
    chmod 700 "$root/state"
    for node in $(seq "$nodes"); do mkdir -p "$root/spool/n$node"; done
    local gpu=/dev/loop # slurmd wants devices, whichever
    if [ "$(id -u)" = 0 ]; then
        gpu=$root/gpu/nvidia
        for number in 0 1; do [ -c "$gpu$number" ] || mknod -m 666 "$gpu$number" c 1 3; done
    fi
    [ -s "$root/munge.key" ] || (umask 077 && head -c 1024 /dev/urandom >"$root/munge.key")
    echo "Name=gpu File=${gpu}[0-1]" >"$root/gres.conf"
    cat >"$SLURM_CONF" <<C
ClusterName=local
SlurmctldHost=$host(127.0.0.1)
SlurmUser=$me
SlurmdUser=$me
SlurmctldPort=$port
AuthType=auth/munge
# MaxArraySize: so small that tests see sweeps of several arrays
# cred_expire: how long a job that queued itself again waits, 120 s by default, 5 at least
AuthInfo=socket=$root/run/munge.socket,cred_expire=5
CryptoType=crypto/munge
CredType=cred/munge
StateSaveLocation=$root/state
SlurmdSpoolDir=$root/spool/%n
SlurmctldPidFile=$root/run/slurmctld.pid
SlurmdPidFile=$root/run/slurmd.%n.pid
SlurmctldLogFile=$root/log/slurmctld.log
SlurmdLogFile=$root/log/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
JobCompType=jobcomp/filetxt
JobCompLoc=$root/log/jobs.txt
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=2,bf_interval=2,sched_min_interval=0,batch_sched_delay=0
JobRequeue=1
MaxArraySize=5
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
KillWait=5
MinJobAge=600
InactiveLimit=0
GresTypes=gpu
$(for node in $(seq "$nodes"); do
    echo "NodeName=n$node NodeHostname=$host NodeAddr=127.0.0.1 Port=$((port + 10 + node))" \
        "CPUs=$cpus RealMemory=4000 Gres=gpu:2 State=UNKNOWN"
done)
PartitionName=main Nodes=ALL Default=YES MaxTime=60 DefaultTime=10 PriorityTier=10 PreemptMode=OFF
PartitionName=scavenge Nodes=ALL MaxTime=60 DefaultTime=10 PriorityTier=1 PreemptMode=REQUEUE GraceTime=20
PartitionName=nograce Nodes=ALL MaxTime=60 DefaultTime=10 PriorityTier=1 PreemptMode=REQUEUE GraceTime=0
C
}

until_true() { # until_true SECONDS COMMAND...
    local tries=$(($1 * 5))
    shift
    for _ in $(seq "$tries"); do
        timeout 5 "$@" >/dev/null 2>&1 && return
        sleep 0.2
    done
    echo "waited in vain for: $*" >&2
    tail -n 15 "$root"/log/*.log >&2
    return 1
}

all_idle() {
    [ "$(sinfo -h -N -p main -o %t | grep -c '^idle$')" = "$nodes" ]
}

start() {
    configure
    munged --force --socket="$root/run/munge.socket" --key-file="$root/munge.key" \
        --pid-file="$root/run/munged.pid" --log-file="$root/log/munged.log" --seed-file="$root/run/munged.seed"
    until_true 10 munge -S "$root/run/munge.socket" -n -o /dev/null
    slurmctld
    until_true 20 scontrol ping
    for node in $(seq "$nodes"); do slurmd -N "n$node"; done
    export -f all_idle
    export nodes
    until_true 30 bash -c all_idle
}

stop() {
    scancel --user="$me" 2>/dev/null || true
    for file in "$root"/run/slurmd.*.pid "$root/run/slurmctld.pid" "$root/run/munged.pid"; do
        [ -s "$file" ] || continue
        local pid
        pid=$(cat "$file")
        kill "$pid" 2>/dev/null || continue
        for _ in $(seq 100); do
            kill -0 "$pid" 2>/dev/null || break
            sleep 0.1
        done
        kill -9 "$pid" 2>/dev/null || true
    done
}

case ${1:-} in
    start) start ;;
    stop) stop ;;
    env) echo "export SLURM_CONF=$SLURM_CONF" ;;
    wipe)
        stop
        rm -rf "$root"
        ;;
    *)
        echo "usage: $0 start|stop|env|wipe" >&2
        exit 2
        ;;
esac
