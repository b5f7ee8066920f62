#!/usr/bin/env bash
# Builds every target of build/PRESET and runs every test; ends with the count, and fails when one failed.
set -euo pipefail
cd "$(dirname "$0")/.."
preset=${1:-release} jobs=${2:-$(nproc)}
python3 scripts/check_layers.py --self-test
python3 scripts/check_layers.py
cmake --build "build/$preset" --parallel "$jobs"
# The tests use both cores themselves (data-loader threads, OpenMP), so they run one after the other.
ctest --test-dir "build/$preset" --output-on-failure --no-tests=error --timeout 600
