#!/usr/bin/env bash
# One training run over several machines under Slurm:  sbatch scripts/cluster/slurm.sh CONFIG [--training.output_dir DIR ...]
# Slurm starts one process for each task and sets SLURM_PROCID, SLURM_NTASKS, ... for it; the first host of the step's list is
# where the ranks meet. The folder of training.output_dir must be shared by all machines.
#SBATCH --job-name=oumi
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
# Sends SIGTERM to every rank five minutes before the end: the run saves a checkpoint and leaves with exit code 143.
#SBATCH --signal=TERM@300
#SBATCH --requeue
set -euo pipefail
: "${OUMI_CPP:=oumi-cpp}"
config=$1
shift
export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1}
# After a requeue the run goes on where it was; the first time there is nothing to resume from.
exec srun --kill-on-bad-exit=1 "$OUMI_CPP" train -c "$config" --training.try_resume_from_last_checkpoint true "$@"
