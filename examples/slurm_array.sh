#!/bin/bash
#SBATCH --job-name=pcbench
#SBATCH --array=1-64
#SBATCH --gpus=1
#SBATCH --cpus-per-task=12
#SBATCH --time=4:00:00
#SBATCH --signal=B:TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
# ImageNet-C in 64 parts that fill one directory; submit with: sbatch slurm_array.sh
# A part that runs into its time limit, or is preempted, keeps what is finished and goes back into the queue.
data=${PCBENCH_IMAGENET:?the folder of the validation images}
output=${PCBENCH_OUTPUT:-runs/imagenet-c}
shards=${SLURM_ARRAY_TASK_COUNT:-64}

stop() {  # hand the signal on, wait until the run has kept what is finished, and go back into the queue
    kill -TERM "$run" 2>/dev/null
    wait "$run"
    scontrol requeue "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"
    exit 143
}
trap stop TERM

pcbench run --shard "$SLURM_ARRAY_TASK_ID/$shards" --quiet --workers 11 --batch-size 256 \
    --model pvgg16 --model vgg16 --suite imagenet-c --data "$data" --output "$output" &
run=$!
wait "$run"
