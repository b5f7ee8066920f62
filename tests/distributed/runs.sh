# Shared by the tests that hold runs over ranks against runs of one process; source it after lib.sh. The run is config.yaml's.

# same EXPECTED ACTUAL [option ...]
same() {
  pass
  run python3 "$OUMI_SOURCE_DIR/tests/distributed/compare_runs.py" --steps 50 "$@"
  [ "$CODE" -eq 0 ] || fail "the runs differ"
  cat "$WORK/.stdout"
}
run_one() { expect_exit 0 "$OUMI_CPP" train -c config.yaml --training.output_dir "$1" "${@:2}"; }  # FOLDER OVERRIDES...
launch() { expect_exit 0 "$OUMI_CPP" launch --nproc-per-node "$1" train -c config.yaml --training.output_dir "$2" "${@:3}"; }  # RANKS FOLDER OVERRIDES...
ga() { echo "--training.gradient_accumulation_steps=$1"; }
# language_model_training EVAL_BATCH: the config's training section.
language_model_training() {
  cat <<YAML
training:
  output_dir: out
  max_steps: 50
  per_device_train_batch_size: 2
  per_device_eval_batch_size: $1
  optimizer: sgd
  sgd_momentum: 0.9
  learning_rate: 2.0e-2
  weight_decay: 0.01
  max_grad_norm: 0.5
  logging_steps: 1
  eval_strategy: steps
  eval_steps: 50
  save_strategy: "no"
  enable_tensorboard: false
  dataloader_num_workers: 0
YAML
}

# peak_memory OUTPUT ARGUMENTS...: runs oumi-cpp; the largest peak of its ranks' resident memory, in kB, in $PEAK.
peak_memory() {
  local launcher
  ASAN_OPTIONS=$ASAN_FREES_AT_ONCE "$OUMI_CPP" "${@:2}" >"$1" 2>&1 &
  launcher=$!
  PEAK=$(python3 - "$launcher" <<'PY'
import os, sys, time
launcher, peak = int(sys.argv[1]), 0
children = f"/proc/{launcher}/task/{launcher}/children"
while True:
    try:
        pids = open(children).read().split()
        if open(f"/proc/{launcher}/stat").read().split(")")[1].split()[0] == "Z":
            break
    except OSError:
        break
    for pid in pids:
        try:
            status = open(f"/proc/{pid}/status").read()
        except OSError:
            continue
        peak = max([peak] + [int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")])
    time.sleep(0.01)
print(peak)
PY
)
  wait $launcher || { fail "the run failed"; cat "$1" >&2; }
}
