#!/usr/bin/env bash
# Starting, stopping and resuming several ranks: by launch, and by what torchrun, Slurm, Open MPI and Kubernetes set.
source "$(dirname "$0")/../lib.sh"

small_fashion data 60 20
cat >config.yaml <<'YAML'
model:
  model_name: CnnClassifier
  load_pretrained_weights: false
  model_kwargs: {image_width: 28, image_height: 28, in_channels: 1, output_dim: 10}
data:
  train:
    datasets:
      - dataset_name: idx
        dataset_path: data
        split: train
        dataset_kwargs: {transforms: [to_float, {name: random_crop, size: 28, padding: 2}]}
  validation:
    datasets: [{dataset_name: idx, dataset_path: data, split: test, dataset_kwargs: {transforms: [to_float]}}]
training:
  output_dir: out
  num_train_epochs: 2
  lr_scheduler_type: constant
  per_device_train_batch_size: 4
  gradient_accumulation_steps: 2
  learning_rate: 1.0e-3
  logging_steps: 1
  save_steps: 3
  enable_tensorboard: false
YAML
launch() { "$OUMI_CPP" launch --nproc-per-node 2 "$@"; }
train() { launch train -c config.yaml --training.output_dir "$@"; }

CASE="launch"
expect_exit 0 train plain
expect_stdout "[rank 0] trained 8 steps"
expect_file plain/model.safetensors plain/checkpoint-3/rng_state_0.safetensors plain/checkpoint-3/rng_state_1.safetensors plain/logs/rank_0001.log
expect_absent plain/metrics_rank0001.jsonl
expect_error 2 "expected train or evaluate" launch config show -c config.yaml
expect_error 2 "expected 1 or more, got 0" "$OUMI_CPP" launch --nproc-per-node 0 train -c config.yaml
expect_exit 2 train plain
expect_stderr "holds an earlier run"
expect_stderr "error: [launch] rank"
expect_exit 0 launch evaluate -c config.yaml --training.output_dir plain --json
expect_stdout eval_accuracy

CASE="resume at the same layout, from the middle of an epoch"
for kind in ddp fsdp; do
  options=()
  [ $kind = ddp ] || options=(--fsdp.enable_fsdp=true --fsdp.auto_wrap_policy=SIZE_BASED_WRAP --fsdp.min_num_params=500 --fsdp.state_dict_type=SHARDED_STATE_DICT)
  expect_exit 0 train whole_$kind ${options[@]+"${options[@]}"}
  expect_exit 0 train parts_$kind ${options[@]+"${options[@]}"} --training.max_steps 3
  expect_exit 0 train parts_$kind ${options[@]+"${options[@]}"} --training.try_resume_from_last_checkpoint true
  expect_stderr "resuming from"
  expect_same whole_$kind/model.safetensors parts_$kind/model.safetensors
  expect_equal "$(metric parts_$kind/metrics_rank0000.jsonl loss)" "$(metric whole_$kind/metrics_rank0000.jsonl loss)" losses
done
expect_same plain/model.safetensors whole_ddp/model.safetensors
expect_file whole_fsdp/checkpoint-3/model-rank-00002-of-00002.safetensors whole_fsdp/checkpoint-3/optimizer-00001-of-00002.json
expect_exit 0 "$OUMI_CPP" checkpoint verify whole_fsdp/checkpoint-3

CASE="resume at another number of ranks: the samples that were not seen yet, in the same order"
cp -r parts_fsdp/checkpoint-3 . && mkdir one && mv checkpoint-3 one/
expect_exit 0 "$OUMI_CPP" train -c config.yaml --training.output_dir one --training.try_resume_from_last_checkpoint true
expect_stderr "the epoch goes on after the 48 samples seen of 60"
expect_file one/model.safetensors

CASE="SIGTERM to one rank stops all with a checkpoint"
"$OUMI_CPP" launch --nproc-per-node 2 train -c config.yaml --training.output_dir stopped --training.max_steps 100000 --training.save_strategy "'no'" >stopped.out 2>&1 &
launcher=$!
wait_until grep -q '"step": 3,' stopped/metrics_rank0000.jsonl
kill -TERM "$(pgrep -P $launcher | tail -n 1)"
code=0
wait $launcher || code=$?
expect_equal "$code" 143 "exit code"
pass; ls -d stopped/checkpoint-* >/dev/null || fail "no checkpoint was saved"
expect_exit 0 "$OUMI_CPP" checkpoint verify stopped/checkpoint-*

CASE="a rank is killed: restart from the last good checkpoint, with the same result"
"$OUMI_CPP" launch --nproc-per-node 2 --max-restarts 1 train -c config.yaml --training.output_dir killed --training.num_train_epochs 15 --training.save_steps 10 >killed.out 2>&1 &
launcher=$!
wait_until test -d killed/checkpoint-10
kill -KILL "$(pgrep -P $launcher | tail -n 1)"
code=0
wait $launcher || code=$?
expect_equal "$code" 0 "exit code"
pass; grep -q 'failed: killed by signal 9 (Killed); restart 1 of 1 from the last good checkpoint' killed.out || fail "$(cat killed.out)"
expect_exit 0 train undisturbed --training.num_train_epochs 15 --training.save_strategy "'no'"
expect_same undisturbed/model.safetensors killed/model.safetensors

CASE="a rank hangs: the others name it within the timeout"
"$OUMI_CPP" launch --nproc-per-node 2 train -c config.yaml --training.output_dir hung --training.max_steps 100000 --training.save_strategy "'no'" --training.ddp_timeout 2 >hung.out 2>&1 &
launcher=$!
wait_until grep -q '"step": 2,' hung/metrics_rank0000.jsonl
victim=$(pgrep -P $launcher | tail -n 1)
kill -STOP "$victim"
sleep 6
kill -CONT "$victim" 2>/dev/null || true
code=0
wait $launcher || code=$?
expect_equal "$code" 3 "exit code"
pass; grep -q 'error: \[rank 0\] .* failed after step [0-9]*: expected all 2 ranks, got no sign of life from rank 1 (last seen' hung.out || fail "$(cat hung.out)"

# by_hand NAME VARIABLES_OF_RANK_0 VARIABLES_OF_RANK_1: what a cluster's starter does.
by_hand() {
  local name=$1 rank codes=0
  for rank in 1 2; do
    # shellcheck disable=SC2046
    env $(echo "${@:$((rank + 1)):1}") "$OUMI_CPP" train -c config.yaml --training.output_dir "$name" >"$name.$rank.out" 2>&1 &
  done
  wait -n || codes=$?
  wait -n || codes=$?
  [ "$codes" -eq 0 ] || cat "$name".*.out >&2
  expect_equal "$codes" 0 "$name exit code"
  expect_same plain/model.safetensors "$name/model.safetensors"
}

CASE="the variables of other starters"
port=$(free_port)
by_hand openmpi "OMPI_COMM_WORLD_RANK=0 OMPI_COMM_WORLD_SIZE=2 OMPI_COMM_WORLD_LOCAL_RANK=0 OMPI_COMM_WORLD_LOCAL_SIZE=2 MASTER_PORT=$port" \
  "OMPI_COMM_WORLD_RANK=1 OMPI_COMM_WORLD_SIZE=2 OMPI_COMM_WORLD_LOCAL_RANK=1 OMPI_COMM_WORLD_LOCAL_SIZE=2 MASTER_PORT=$port"

CASE="scripts/cluster/slurm.sh"
# srun as Slurm has it: one process for each task, with its variables.
mkdir bin
cat >bin/srun <<'SRUN'
#!/usr/bin/env bash
shift  # --kill-on-bad-exit=1
for task in 0 1; do
  SLURM_PROCID=$task SLURM_LOCALID=$task SLURM_NTASKS=2 SLURM_STEP_ID=0 SLURM_STEP_NODELIST=localhost SLURM_JOB_ID=$JOB "$@" &
done
code=0
wait -n || code=$?
wait -n || code=$?
exit $code
SRUN
chmod +x bin/srun
expect_exit 0 env PATH="$PWD/bin:$PATH" JOB=$(($(free_port) - 20000)) SLURM_CPUS_PER_TASK=1 bash "$OUMI_SOURCE_DIR/scripts/cluster/slurm.sh" config.yaml --training.output_dir slurm
expect_same plain/model.safetensors slurm/model.safetensors

CASE="scripts/cluster/pytorchjob.yaml"
command=$(sed -n 's/^ *command: \[\(.*\)/\1/p; s/^ *--training.try_resume[^,]*, "true"\]/&/p' "$OUMI_SOURCE_DIR/scripts/cluster/pytorchjob.yaml" | tr -d '",[]' | tr '\n' ' ' | sed "s|oumi-cpp|$OUMI_CPP|; s|/runs/config.yaml|config.yaml|; s|/runs/output|pods|")
port=$(free_port)
for rank in 0 1; do
  # shellcheck disable=SC2086
  RANK=$rank WORLD_SIZE=2 MASTER_ADDR=localhost MASTER_PORT=$port $command >pod$rank.out 2>&1 &
done
codes=0
wait -n || codes=$?
wait -n || codes=$?
expect_equal "$codes" 0 "exit code"
expect_same plain/model.safetensors pods/model.safetensors

report_and_exit
