#!/usr/bin/env bash
# Builds every target of build/PRESET and runs every test; ends with the count, and fails when one failed.
set -euo pipefail
cd "$(dirname "$0")/.."
preset=${1:-release} jobs=${2:-$(nproc)}
python3 scripts/check_layers.py --self-test
python3 scripts/check_layers.py
targets=(all) selection=() seconds=600
[ "$preset" != asan ] || seconds=3000
if [ "$preset" = tsan ]; then
  # LibTorch and its OpenMP are not instrumented: what computes with them shows races that are none. The torch-free folders and the
  # data loader with its threads need neither.
  targets=(oumi_config_test oumi_telemetry_test oumi_text_test oumi_hub_test oumi_data_test)
  selection=(-R '^(config|telemetry|text|hub|data)$')
  export TSAN_OPTIONS="ignore_noninstrumented_modules=1:${TSAN_OPTIONS:-}"
fi
# A sanitizer's own dlopen doesn't look beside the binary for liboumi_bridge.so.
[ "$preset" = release ] || export LD_LIBRARY_PATH="$PWD/build/$preset${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
cmake --build "build/$preset" --parallel "$jobs" --target "${targets[@]}"
# The tests use both cores themselves (data-loader threads, OpenMP), so they run one after the other.
ctest --test-dir "build/$preset" "${selection[@]}" --output-on-failure --no-tests=error --timeout "$seconds"
