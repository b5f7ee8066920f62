#!/usr/bin/env bash
# Two network namespaces as two machines: they train as one, and when the cable is cut, both say so and go on once it is back.
source "$(dirname "$0")/../lib.sh"

if ! ip netns add oumi-test-$$ 2>/dev/null; then
  skip "network namespaces need root"
  pass
  report_and_exit
fi
ip netns del oumi-test-$$
a=oumi-a-$$ b=oumi-b-$$
cleanup() { ip netns del $a 2>/dev/null || true; ip netns del $b 2>/dev/null || true; }
trap 'cleanup; finish' EXIT
ip netns add $a
ip netns add $b
ip link add oumi-a netns $a type veth peer name oumi-b netns $b
ip -n $a addr add 10.77.0.1/24 dev oumi-a
ip -n $b addr add 10.77.0.2/24 dev oumi-b
for name in $a $b; do ip -n $name link set lo up; done
ip -n $a link set oumi-a up
ip -n $b link set oumi-b up

export OUMI_LINK_TIMEOUT=5
small_fashion data 60 20
cat >config.yaml <<'YAML'
model:
  model_name: SimpleModel
  load_pretrained_weights: false
data:
  train:
    datasets: [{dataset_name: idx, dataset_path: data, split: train, dataset_kwargs: {transforms: [to_float]}}]
training:
  output_dir: out
  num_train_epochs: 60
  lr_scheduler_type: constant
  per_device_train_batch_size: 4
  learning_rate: 1.0e-3
  logging_steps: 1
  save_steps: 100
  save_total_limit: 2
  ddp_timeout: 3
  enable_tensorboard: false
YAML
node() { # NAMESPACE NODE OUTPUT_DIR [option ...]
  ip netns exec "$1" "$OUMI_CPP" launch --nproc-per-node 1 --nnodes 2 --node-rank "$2" --rdzv-endpoint 10.77.0.1:29411 --max-restarts 1 \
    train -c config.yaml --training.output_dir "$3" "${@:4}"
}

CASE="undisturbed"
node $b 1 plain >b.out 2>&1 &
other=$!
expect_exit 0 node $a 0 plain
code=0
wait $other || code=$?
expect_equal "$code" 0 "exit code of node 1"
[ "$code" -eq 0 ] || cat b.out >&2

CASE="cut off"
node $a 0 cut >a.out 2>&1 &
first=$!
node $b 1 cut >b.out 2>&1 &
other=$!
wait_until test -d cut/checkpoint-100
ip -n $b link set oumi-b down
wait_until grep -q 'restart 1 of 1' a.out
wait_until grep -q 'restart 1 of 1' b.out
ip -n $b link set oumi-b up
for process in $first $other; do
  code=0
  wait $process || code=$?
  expect_equal "$code" 0 "exit code"
done
pass; grep -q 'node 1 is lost' a.out || { fail "node 0 does not say who is lost"; cat a.out >&2; }
pass; grep -q 'node 0 is lost' b.out || { fail "node 1 does not say who is lost"; cat b.out >&2; }
expect_same plain/model.safetensors cut/model.safetensors

report_and_exit
