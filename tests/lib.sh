# Shared by the tests that run the real binary. Source it first: it makes a work folder of the test's own, enters it, and
# removes it at the end. Bash, coreutils and Python's standard library are all that it needs.
#
# The environment comes from tests/CMakeLists.txt: OUMI_CPP (the binary), OUMI_SOURCE_DIR, OUMI_BUILD_DIR.
# KEEP_WORK=1 leaves the work folder for a look.
set -euo pipefail

: "${OUMI_SOURCE_DIR:=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)}"
: "${OUMI_BUILD_DIR:=$OUMI_SOURCE_DIR/build/release}"
: "${OUMI_CPP:=$OUMI_BUILD_DIR/oumi-cpp}"
export OUMI_SOURCE_DIR OUMI_BUILD_DIR OUMI_CPP
[ -x "$OUMI_CPP" ] || { echo "no binary at $OUMI_CPP: build the target oumi-cpp first" >&2; exit 1; }

# What the machine's environment may hold must not change what a test sees.
unset RANK WORLD_SIZE LOCAL_RANK MASTER_ADDR MASTER_PORT OUMI_EXTRA_DEPS_FILE
# One thread: tests may run on busy machines, and bit-exact comparisons want the same number everywhere.
export OMP_NUM_THREADS=1 LC_ALL=C

# For runs whose memory is measured: AddressSanitizer would keep what is freed.
ASAN_FREES_AT_ONCE="${ASAN_OPTIONS:-}:quarantine_size_mb=0:thread_local_quarantine_size_kb=0"

WORK=$(mktemp -d "${TMPDIR:-/tmp}/oumi-test.XXXXXX")
finish() {
  local code=$?
  # Whatever still runs in the background belongs to this test.
  local children
  children=$(jobs -p)
  [ -z "$children" ] || kill -KILL $children 2>/dev/null || true
  cd /
  if [ -n "${KEEP_WORK:-}" ]; then
    echo "work folder: $WORK"
  else
    chmod -R u+rwX "$WORK" 2>/dev/null || true
    rm -rf "$WORK"
  fi
  exit "$code"
}
trap finish EXIT
cd "$WORK"

FAILURES=0
CHECKS=0

# fail MESSAGE: notes a failure, shows the last command's output, and goes on, so that one run shows all failures.
fail() {
  FAILURES=$((FAILURES + 1))
  echo "FAIL (${BASH_SOURCE[-1]##*/}:${BASH_LINENO[-2]}${CASE:+, $CASE}): $*" >&2
  [ -n "${LAST_COMMAND:-}" ] && echo "  command: $LAST_COMMAND" >&2
  if [ -f "$WORK/.stdout" ]; then sed 's/^/  stdout: /' "$WORK/.stdout" | tail -n 15 >&2; fi
  if [ -f "$WORK/.stderr" ]; then sed 's/^/  stderr: /' "$WORK/.stderr" | tail -n 25 >&2; fi
}

# The last line of every test.
report_and_exit() {
  if [ "$CHECKS" -eq 0 ]; then echo "no check ran" >&2; exit 1; fi
  echo "$CHECKS checks, $FAILURES failed"
  [ "$FAILURES" -eq 0 ]
  exit
}

pass() { CHECKS=$((CHECKS + 1)); }

skip() { echo "skipped: $*"; }

# Tokenizers and chat templates are Rust's, which a build may lack.
has_text() { [ -e "$OUMI_BUILD_DIR/liboumi_bridge.so" ]; }
# For a test of text alone, before its first check: CTest counts it as skipped where there is none.
needs_text() { has_text || { skip "built without Rust, so without tokenizers and chat templates"; exit 77; }; }

# run COMMAND...: sets CODE; output goes to .stdout and .stderr of the work folder.
run() {
  LAST_COMMAND="$*"
  CODE=0
  "$@" >"$WORK/.stdout" 2>"$WORK/.stderr" </dev/null || CODE=$?
}

# expect_exit CODE COMMAND...
expect_exit() {
  local expected=$1
  shift
  pass
  run "$@"
  [ "$CODE" -eq "$expected" ] || fail "expected exit code $expected, got $CODE"
}

# About the last command's output.
expect_stderr() { pass; grep -qF -- "$1" "$WORK/.stderr" || fail "expected '$1' on stderr"; }
expect_stdout() { pass; grep -qF -- "$1" "$WORK/.stdout" || fail "expected '$1' on stdout"; }
expect_no_stderr() { pass; [ ! -s "$WORK/.stderr" ] || fail "expected nothing on stderr"; }
expect_no_stdout() { pass; [ ! -s "$WORK/.stdout" ] || fail "expected nothing on stdout"; }
refute_stderr() { pass; ! grep -qF -- "$1" "$WORK/.stderr" || fail "did not expect '$1' on stderr"; }

# expect_error CODE TEXT COMMAND...: the contract of every error: the exit code, exactly one line `error: [component] ...` that
# holds TEXT, at most one `hint:` line after it, no trace of a crash.
expect_error() {
  local expected=$1 text=$2
  shift 2
  pass
  run "$@"
  [ "$CODE" -eq "$expected" ] || { fail "expected exit code $expected, got $CODE"; return 0; }
  local errors hints
  errors=$(grep -c '^error: ' "$WORK/.stderr" || true)
  hints=$(grep -c '^hint: ' "$WORK/.stderr" || true)
  [ "$errors" -eq 1 ] || fail "expected one 'error:' line, got $errors"
  [ "$hints" -le 1 ] || fail "expected at most one 'hint:' line, got $hints"
  grep -q '^error: \[[^]]*.*\] .' "$WORK/.stderr" || fail "expected 'error: [component] message'"
  grep '^error: ' "$WORK/.stderr" | grep -qF -- "$text" || fail "expected '$text' in the error line"
  ! grep -Eq 'terminate called|Segmentation|core dumped|frame #[0-9]|Exception raised from|^#[0-9]+ 0x|Traceback' "$WORK/.stderr" ||
    fail "the message carries a stack trace or a crash"
  tail -n 1 "$WORK/.stderr" | grep -Eq '^(error|hint): ' || fail "expected the error (and hint) to be the last lines"
}

expect_file() { local f; for f in "$@"; do pass; [ -s "$f" ] || fail "expected a non-empty file $f"; done; }
expect_absent() { local f; for f in "$@"; do pass; [ ! -e "$f" ] || fail "expected no $f"; done; }
expect_same() { pass; cmp -s "$1" "$2" || fail "expected $1 and $2 to have the same bytes"; }
expect_different() { pass; ! cmp -s "$1" "$2" || fail "expected $1 and $2 to differ"; }
expect_equal() { pass; [ "$1" = "$2" ] || fail "${3:-values}: expected '$2', got '$1'"; }

# Nothing half-written is left under the folder.
expect_no_leftovers() {
  pass
  local left
  left=$(find "$1" -name '*.tmp*' 2>/dev/null || true)
  [ -z "$left" ] || fail "left behind: $left"
}

# Waits until the command succeeds, at most 30 s.
wait_until() {
  local i
  for ((i = 0; i < 600; i++)); do
    if "$@" >/dev/null 2>&1; then return 0; fi
    sleep 0.05
  done
  fail "nothing happened in 30 s: $*"
  return 1
}

# small_fashion DIRECTORY TRAIN TEST: the first images of Fashion-MNIST as plain IDX files: they load in a millisecond.
small_fashion() {
  python3 - "$@" <<'PY'
import gzip, os, struct, sys
folder, counts = sys.argv[1], {"train": int(sys.argv[2]), "t10k": int(sys.argv[3])}
os.makedirs(folder, exist_ok=True)
for prefix, count in counts.items():
    for kind, item in (("images-idx3", 784), ("labels-idx1", 1)):
        name = f"{prefix}-{kind}-ubyte"
        with gzip.open(f"/usr/share/datasets/fashion-mnist/{name}.gz") as source:
            header = bytearray(source.read(16 if item > 1 else 8))
            header[4:8] = struct.pack(">I", count)
            with open(f"{folder}/{name}", "wb") as target:
                target.write(header + source.read(count * item))
PY
}

# small_chats FILE COUNT: conversations of two turns, for tests/golden/textdata's tokenizer.
small_chats() {
  python3 - "$@" <<'PY'
import json, random, sys
random.seed(7)
words = "a bee hums over the red clover while two crows talk about rain and a slow cart turns at the mill".split()
with open(sys.argv[1], "w") as file:
    for _ in range(int(sys.argv[2])):
        turns = [{"role": role, "content": " ".join(random.choices(words, k=random.randint(1, 9)))} for role in ("user", "assistant")]
        file.write(json.dumps({"messages": turns}) + "\n")
PY
}

# simple_model_config: the model and data sections of a config for SimpleModel on small_fashion's folder `data`; `training:` follows.
simple_model_config() {
  cat <<'YAML'
model:
  model_name: SimpleModel
  load_pretrained_weights: false
data:
  train:
    datasets: [{dataset_name: idx, dataset_path: data, split: train}]
  validation:
    datasets: [{dataset_name: idx, dataset_path: data, split: test}]
YAML
}

# flip_bit FILE OFFSET (negative: from the end)
flip_bit() {
  python3 - "$@" <<'PY'
import sys
with open(sys.argv[1], "r+b") as file:
    data = bytearray(file.read())
    data[int(sys.argv[2])] ^= 1
    file.seek(0)
    file.write(data)
PY
}

# good_checkpoints OUTPUT_DIR: the steps of its whole checkpoints, one a line, the lowest first.
good_checkpoints() {
  compgen -G "$1/checkpoint-*" >/dev/null || return 0
  { "$OUMI_CPP" checkpoint verify "$1" --json || true; } | python3 -c '
import json, sys
print("\n".join(str(c["step"]) for c in sorted(json.loads(sys.stdin.read())["checkpoints"], key=lambda c: c["step"]) if c["ok"]))'
}

# none_lost BEFORE AFTER: every one of the steps BEFORE is among AFTER.
none_lost() {
  pass
  [ -z "$(comm -23 <(sort <<<"$1") <(sort <<<"$2"))" ] || fail "good checkpoints before: $(echo $1), after: $(echo $2)"
}

# faults_full: whether `make test-faults` runs, with all cases and counts; by hand: OUMI_FAULTS=full tests/faults/NAME.sh
faults_full() { [ "${OUMI_FAULTS:-}" = full ]; }

# random_between SEED LOW HIGH: always the same for a seed.
random_between() { python3 -c "import random, sys; print(random.Random(sys.argv[1]).uniform(float(sys.argv[2]), float(sys.argv[3])))" "$@"; }

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

# ranks_of LAUNCHER: the process ids of its ranks, in the order of ranks.
ranks_of() {
  local pid
  for pid in $(pgrep -P "$1"); do echo "$(tr '\0' '\n' <"/proc/$pid/environ" | sed -n 's/^RANK=//p') $pid"; done | sort -n | cut -d ' ' -f 2
}
rank_of() { ranks_of "$1" | sed -n "$(($2 + 1))p"; }  # LAUNCHER RANK

# metric FILE KEY: that key's values of all lines of a metrics file that have it, one a line.
metric() {
  python3 - "$@" <<'PY'
import json, sys
for line in open(sys.argv[1]):
    record = json.loads(line)
    if sys.argv[2] in record:
        print(json.dumps(record[sys.argv[2]]))
PY
}
