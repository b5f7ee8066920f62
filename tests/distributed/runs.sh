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
