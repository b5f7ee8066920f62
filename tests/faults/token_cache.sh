#!/usr/bin/env bash
# kill -9 at random moments while encoded samples are cached, and several processes that want the same samples at once: what is
# used is what an undisturbed run writes, and nothing half-written stays. The moments come from a seed: OUMI_KILL_SEED=n tries others.
source "$(dirname "$0")/../lib.sh"
needs_text

seed=${OUMI_KILL_SEED:-1}
kills=4
if faults_full; then kills=60; fi
small_chats chats.jsonl 8000
cat >run.yaml <<YAML
model: {model_name: MlpEncoder, load_pretrained_weights: false, tokenizer_name: $OUMI_SOURCE_DIR/tests/golden/textdata, model_max_length: 64}
data:
  train:
    datasets: [{dataset_name: text_sft_jsonl, dataset_path: chats.jsonl}]
training: {output_dir: out}
YAML
tokenize=("$OUMI_CPP" tokenize -c run.yaml --json --limit 1)

CASE="undisturbed"
started=$(date +%s%N)
expect_exit 0 env OUMI_CACHE="$WORK/whole" "${tokenize[@]}"
elapsed=$((($(date +%s%N) - started) / 1000000))
cp .stdout expected
expect_stderr "8000 samples encoded"
tokens=$(cd whole/tokens && echo *.arrow)
key=${tokens%.arrow}

# whole_entry FOLDER: it holds the one entry, byte for byte, and nothing else.
whole_entry() {
  expect_equal "$(cd "$1/tokens" && echo *)" "$key.arrow $key.json $key.lock" "files of the cache"
  expect_same "whole/tokens/$tokens" "$1/tokens/$tokens"
}

CASE="killed while the cache is written"
export OUMI_CACHE="$WORK/killed"
done_kills=0 left=0
for attempt in $(seq 1 $((kills * 3))); do
  [ "$done_kills" -lt "$kills" ] || break
  delay=$(random_between "$seed $attempt" 0 "${elapsed}e-3")
  LAST_COMMAND="kill number $((done_kills + 1)) after $delay s (seed $seed)"
  "${tokenize[@]}" >.stdout 2>.stderr &
  pid=$!
  sleep "$delay"
  kill -KILL "$pid" 2>/dev/null || true
  CODE=0
  wait "$pid" 2>/dev/null || CODE=$?
  if [ "$CODE" -eq 0 ]; then  # it got there before the kill
    whole_entry killed
    rm -rf killed
    continue
  fi
  pass; [ "$CODE" -eq 137 ] || { fail "expected to be killed (137), got exit code $CODE"; break; }
  done_kills=$((done_kills + 1))
  if ls killed/tokens/*.tmp-* >/dev/null 2>&1; then left=$((left + 1)); fi
  # Every other time the next run goes on from what the killed one left; else another kill comes on top.
  if [ $((done_kills % 2)) -eq 0 ]; then
    expect_exit 0 "${tokenize[@]}"
    expect_same .stdout expected
    whole_entry killed
    rm -rf killed
  fi
done
expect_equal "$done_kills" "$kills" "kills"
pass; [ "$left" -gt 0 ] || fail "no kill found the cache half-written"

CASE="several at once"
export OUMI_CACHE="$WORK/shared"
pids=()
for process in 1 2 3; do
  "${tokenize[@]}" >"out.$process" 2>"err.$process" &
  pids+=($!)
done
for process in 1 2 3; do
  pass; wait "${pids[process - 1]}" || fail "process $process: $(cat "err.$process")"
  expect_same "out.$process" expected
done
expect_equal "$(cat err.* | grep -c 'samples encoded')" 1 "processes that encoded"
whole_entry shared

CASE="the writer is killed while another one waits"
export OUMI_CACHE="$WORK/waiting"
"${tokenize[@]}" >/dev/null 2>&1 &
writer=$!
wait_until eval 'ls waiting/tokens/*.tmp-* >/dev/null 2>&1'
"${tokenize[@]}" >out.1 2>err.1 &
waiter=$!
sleep 0.2
kill -KILL "$writer" 2>/dev/null || true
wait "$writer" 2>/dev/null || true
pass; wait "$waiter" || fail "the one that waited: $(cat err.1)"
expect_same out.1 expected
whole_entry waiting

report_and_exit
