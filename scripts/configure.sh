#!/usr/bin/env bash
# Configures build/PRESET once; CMake re-runs itself after that.
set -euo pipefail
cd "$(dirname "$0")/.."
preset=${1:-release}
torch_root=$(cat build/deps/torch_root)
if [ ! -f "build/$preset/build.ninja" ] || ! grep -qs "^Torch_ROOT:PATH=$torch_root$" "build/$preset/CMakeCache.txt"; then
  cmake --preset "$preset" -DTorch_ROOT:PATH="$torch_root" >"build/configure-$preset.log" 2>&1 ||
    { cat "build/configure-$preset.log" >&2; exit 3; }
fi
