#!/usr/bin/env bash
# Trains SimpleModel on Fashion-MNIST and measures it on the test images. Can be repeated.
set -euo pipefail
cd "$(dirname "$0")/.."
binary=$1 config=configs/simple_model_fashion_mnist.yaml
output=output/simple_model_fashion_mnist
"$binary" train -c "$config" --overwrite
"$binary" report "$output"
result=$("$binary" evaluate -c "$config" --json | tail -n 1)
echo "$result"
accuracy=$(sed -n 's/.*"eval_accuracy":\([0-9.e-]*\).*/\1/p' <<<"$result")
[ -n "$accuracy" ] || { echo "demo: evaluate gave no eval_accuracy" >&2; exit 1; }
printf 'test accuracy: %.4f\n' "$accuracy"
