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
