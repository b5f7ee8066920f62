#!/usr/bin/env bash
# Configures build/PRESET once; CMake re-runs itself after that. It does not see that Rust was installed meanwhile: this does.
set -euo pipefail
cd "$(dirname "$0")/.."
preset=${1:-release}
torch_root=$(cat build/deps/torch_root)
cargo_came() {
  grep -qs '^OUMI_FOUND_CARGO:INTERNAL=OFF$' "build/$preset/CMakeCache.txt" && { [ -x "${CARGO:-}" ] || command -v cargo || [ -x "${HOME:-}/.cargo/bin/cargo" ]; }
} >/dev/null
if cargo_came || [ ! -f "build/$preset/build.ninja" ] || ! grep -qs "^Torch_ROOT:PATH=$torch_root$" "build/$preset/CMakeCache.txt"; then
  cmake --preset "$preset" -DTorch_ROOT:PATH="$torch_root" >"build/configure-$preset.log" 2>&1 ||
    { cat "build/configure-$preset.log" >&2; exit 3; }
fi
