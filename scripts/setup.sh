#!/usr/bin/env bash
# Installs everything that the build needs: Debian packages and, below build/deps, the pinned wheels that carry
# LibTorch and Arrow C++. Safe to run again; a second run with nothing to do takes well under a second.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/dependencies.env
source scripts/dependencies.env
deps="$PWD/build/deps"

say() { printf 'setup: %s\n' "$*"; }

missing_packages() {
  local entry name
  for entry in $DEBIAN_PACKAGES; do
    name=${entry%%=*}
    # A tool that is on the PATH counts, whoever installed it (a compiler from another source, cmake from PyPI).
    case $name in
      ninja-build) command -v ninja >/dev/null && continue ;;
      python3-pip) python3 -m pip --version >/dev/null 2>&1 && continue ;;
      g++ | cmake | make | mold | ccache | python3) command -v "$name" >/dev/null && continue ;;
    esac
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$name" 2>/dev/null)" = installed ] || echo "$name"
  done
}

install_packages() {
  local missing sudo=()
  missing=$(missing_packages)
  [ -n "$missing" ] || return 0
  if ! command -v apt-get >/dev/null; then
    say "this system has no apt-get. Please install what these Debian 12 packages hold, then run again:" >&2
    echo $missing >&2
    exit 3
  fi
  if [ "$(id -u)" -ne 0 ]; then
    if ! sudo -n true 2>/dev/null && ! { [ -t 0 ] && command -v sudo >/dev/null; }; then
      say "not root and no sudo. Please have these Debian packages installed, then run again:" >&2
      echo "  apt-get install" $missing >&2
      exit 3
    fi
    sudo=(sudo)
  fi
  say "installing Debian packages:" $missing
  "${sudo[@]}" apt-get update -qq
  # shellcheck disable=SC2086
  DEBIAN_FRONTEND=noninteractive "${sudo[@]}" apt-get install -y -qq --no-install-recommends $missing >/dev/null
}

# The active Python's torch, or Torch_ROOT, spares the download when it is new enough.
existing_torch() {
  if [ -n "${Torch_ROOT:-}" ]; then
    [ -f "$Torch_ROOT/include/ATen/core/Tensor.h" ] && { echo "$Torch_ROOT"; return 0; }
    say "Torch_ROOT=$Torch_ROOT has no include/ATen/core/Tensor.h: expected the folder that holds include/ and lib/" >&2
    exit 3
  fi
  python3 - <<'PY' 2>/dev/null
import importlib.metadata, importlib.util, re
major, minor = map(int, re.match(r"(\d+)\.(\d+)", importlib.metadata.version("torch")).groups())
assert (major, minor) >= (2, 11)
print(importlib.util.find_spec("torch").submodule_search_locations[0])
PY
}

install_wheels() {
  local stamp="$deps/.installed" wanted="" torch_root wheel
  if torch_root=$(existing_torch) && [ -n "$torch_root" ]; then
    for wheel in $WHEELS; do case $wheel in torch==* | nvidia-*) ;; *) wanted="$wanted $wheel" ;; esac; done
  else
    torch_root="$deps/torch"
    wanted=$WHEELS
  fi
  if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted|$torch_root" ]; then
    say "installing wheels into build/deps:" $wanted
    rm -rf "$deps" && mkdir -p "$deps"
    # shellcheck disable=SC2086
    python3 -m pip install --quiet --no-deps --no-warn-conflicts --root-user-action=ignore --target "$deps" \
      --python-version "$WHEEL_PYTHON" --implementation cp --only-binary=:all: \
      --platform manylinux_2_28_x86_64 --platform manylinux2014_x86_64 --platform manylinux_2_25_x86_64 $wanted
    printf '%s\n' "$torch_root" >"$deps/torch_root"
    printf '%s' "$wanted|$torch_root" >"$stamp"
  fi
}

install_packages
install_wheels
