#!/usr/bin/env bash
# Installs the Python peers into a folder of the build (several GB: PyTorch as its users have it) and runs the table.
# OUMI_PEER_PYTHON names an interpreter that has them already; OUMI_BENCH_ROUNDS and OUMI_BENCH_PARTS choose how often and what.
set -euo pipefail
cd "$(dirname "$0")/.."
build=$1 python=${OUMI_PEER_PYTHON:-}
if [ -z "$python" ]; then
  python=build/peers/bin/python
  if ! cmp -s benchmarks/peers/requirements.txt build/peers/requirements.txt; then
    echo "bench: installing the Python peers into build/peers"
    python3 -m venv build/peers
    build/peers/bin/pip install --quiet -r benchmarks/peers/requirements.txt
    cp benchmarks/peers/requirements.txt build/peers/
  fi
fi
# Everything that the peers load is on this machine: no side asks the Hub.
export HF_HUB_OFFLINE=1
exec python3 benchmarks/run.py "$build" "$python" --rounds "${OUMI_BENCH_ROUNDS:-3}" ${OUMI_BENCH_PARTS:+--parts "$OUMI_BENCH_PARTS"}
