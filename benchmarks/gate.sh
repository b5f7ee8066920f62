#!/usr/bin/env bash
# Builds a base beside the build in $1 and judges the two (gate.py). BASE: a tag, a commit or a build folder; by default the last release.
set -euo pipefail
cd "$(dirname "$0")/.."
build=$1 base=${BASE:-$(git describe --tags --abbrev=0 --match 'v*' 2>/dev/null || true)}
if [ -z "$base" ]; then
  echo "bench-gate: no release is tagged here; say what to compare with: make bench-gate BASE=COMMIT, or BASE=BUILD_FOLDER" >&2
  exit 2
fi
if [ ! -x "$base/oumi-cpp" ]; then
  commit=$(git rev-parse --verify --quiet "$base^{commit}") || { echo "bench-gate: BASE: expected a tag, a commit or a build folder, got $base" >&2; exit 2; }
  tree=build/gate/$commit base=$tree/build/release
  if [ ! -e "$base/oumi-cpp" ]; then
    echo "bench-gate: building $commit in $tree"
    mkdir -p "$tree/build"
    git archive "$commit" | tar -x -C "$tree"
    ln -sfn "$PWD/build/deps" "$tree/build/deps"
    (cd "$tree" && scripts/configure.sh release && cmake --build build/release --parallel --target oumi-cpp oumi_bridge benchmarks)
  fi
fi
exec python3 benchmarks/gate.py "$base" "$build" --rounds "${OUMI_BENCH_ROUNDS:-5}"
