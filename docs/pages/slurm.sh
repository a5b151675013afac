#!/bin/bash
# A grid on several nodes of a Slurm cluster, which need share no files but this environment:
#
#     sbatch docs/pages/slurm.sh runs/flowers.yaml --store /home/me/store
#
# All arguments are those of `harness run`, which works on the first node. Give the same command
# again after the time limit: it goes on where it stopped.
#SBATCH --job-name=harness
#SBATCH --nodes=3
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --time=04:00:00
#SBATCH --signal=B:TERM@120
# With GPUs, also: #SBATCH --gpus-per-node=4
set -euo pipefail

export RAY_USAGE_STATS_ENABLED=0
# Nobody else may use these nodes through Ray; it reaches the other nodes with the environment.
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN=${RAY_AUTH_TOKEN:-$(od -An -tx1 -N32 /dev/urandom | tr -d ' \n')}
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
ip=$(srun --nodes=1 --ntasks=1 --nodelist="$first" hostname --ip-address | awk '{ print $1 }')
address=$ip:$((20000 + SLURM_JOB_ID % 10000)) # other jobs on this cluster have ports of their own

trap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT # Ray ends with the job

# Each node tells Ray the cores that Slurm gave it; Ray finds its GPUs by itself.
srun --nodes=1 --ntasks=1 --nodelist="$first" bash -c \
    'exec ray start --head --block --include-dashboard=false --node-ip-address="$0" --port="$1" \
        --num-cpus="$SLURM_CPUS_ON_NODE"' "$ip" "${address#*:}" >ray-head.log 2>&1 &
until (: <"/dev/tcp/$ip/${address#*:}") 2>/dev/null; do
    kill -0 $! || { cat ray-head.log >&2; exit 1; }
    sleep 1
done
if ((SLURM_JOB_NUM_NODES > 1)); then
    srun --nodes=$((SLURM_JOB_NUM_NODES - 1)) --ntasks=$((SLURM_JOB_NUM_NODES - 1)) \
        --exclude="$first" bash -c \
        'exec ray start --block --address="$0" --num-cpus="$SLURM_CPUS_ON_NODE"' \
        "$address" >ray-nodes.log 2>&1 &
fi

# What the nodes have decides what a run asks for: it begins when all are there, or after five minutes
# with those that are. Where the first node has no GPU but others do, also give --device cuda.
python - "$address" "$SLURM_JOB_NUM_NODES" >&2 <<'END'
import sys, time, ray
ray.init(sys.argv[1], log_to_driver=False, logging_level="ERROR")
wanted, until = int(sys.argv[2]), time.monotonic() + 300
while (there := sum(node["Alive"] for node in ray.nodes())) < wanted and time.monotonic() < until:
    time.sleep(1)
print(f"{there} of {wanted} nodes have joined")
END

harness run "$@" --ray "$address" &
run=$!
trap 'kill -TERM "$run"' TERM # two minutes before the time limit: it saves what is under way
status=0
wait "$run" || status=$?
if kill -0 "$run" 2>/dev/null; then # the signal ended the waiting, not the run
    status=0
    wait "$run" || status=$?
fi
exit "$status"
