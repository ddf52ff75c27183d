# Settings of your site, in one place. Copy this file to jobs/site.sh, change what differs, and
# source it in the shell from which you queue jobs; each job sources it again.
#     cp jobs/site.example.sh jobs/site.sh && . jobs/site.sh

# Where these scripts are, as seen from every node.
STM_KERAS_JOBS=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export STM_KERAS_JOBS STM_KERAS_SITE=$STM_KERAS_JOBS/site.sh

# What sbatch asks for; what you type after `sbatch` wins. sbatch reads these by itself.
# export SBATCH_PARTITION=gpu
# export SBATCH_ACCOUNT=my-group
# export SBATCH_TIMELIMIT=04:00:00
# export SBATCH_GRES=gpu:1

# Where datasets are. Copy large ones to the node's own disk at the start of a job, in site_setup.
# export STM_KERAS_DATA=/project/my-group/scans

# How often a job may queue itself again after a time limit or an eviction.
export STM_KERAS_MAX_RESTARTS=50

# What a job does before anything else: modules, environment.
site_setup() {
    # module load python/3.11 cuda
    # . "$HOME/stm-keras/bin/activate"
    :
}

# How stm-keras is called in a job. In a container (jobs/stm-keras.def):
# stm_keras=(apptainer exec --nv --bind "$STM_KERAS_DATA" "$HOME/stm-keras-jax.sif" stm-keras)
stm_keras=(stm-keras)
