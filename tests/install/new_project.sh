#!/usr/bin/env bash
# oumi-cpp new, built against the build folder as its own output says, and trained through the plug-in and its own program.
source "$(dirname "$0")/../lib.sh"

CASE=new
expect_exit 0 "$OUMI_CPP" new TinyNet
cp .stdout instructions.txt
configure=$(sed -n 's/^ *\(cmake -S .*\)$/\1/p' instructions.txt)
pass; [ -n "$configure" ] || fail "the output names no cmake command"
cd TinyNet
expect_exit 0 bash -c "$configure"
expect_exit 0 cmake --build build
expect_file build/libtiny_net.so build/tiny_net_train

CASE="plug-in"
short=(training.max_steps=20 training.logging_steps=10 training.eval_steps=20 'data.train.datasets[0].split=train[:2048]' 'data.validation.datasets[0].split=test[:500]')
expect_exit 0 "$OUMI_CPP" train -c config.yaml --plugin build/libtiny_net.so "${short[@]}"
expect_file output/model.safetensors
pass; grep -q TinyNet output/config.json || fail "config.json does not name the model: $(cat output/config.json)"
expect_exit 0 "$OUMI_CPP" evaluate -c config.yaml --plugin build/libtiny_net.so "${short[@]}" --json
expect_stdout eval_accuracy
cp output/model.safetensors plugin.safetensors
# Without the plug-in the name is unknown.
expect_error 2 "TinyNet" "$OUMI_CPP" evaluate -c config.yaml "${short[@]}"
expect_error 2 "nowhere.so" "$OUMI_CPP" train -c config.yaml --plugin nowhere.so
expect_error 2 "config.yaml" "$OUMI_CPP" train -c config.yaml --plugin config.yaml
expect_error 2 "libz" "$OUMI_CPP" train -c config.yaml --plugin /lib/x86_64-linux-gnu/libz.so.1
# What ran names the plug-in and its hash.
pass; grep -q libtiny_net.so output/telemetry/training_config.yaml || fail "the saved config does not name the plug-in"

CASE="own program"
expect_exit 0 build/tiny_net_train config.yaml "${short[@]}"
expect_same output/model.safetensors plugin.safetensors
expect_error 2 "config" build/tiny_net_train
expect_error 2 "nowhere.yaml" build/tiny_net_train nowhere.yaml

CASE="edit, build, train"
sed -i 's/Conv2d(20, 20, 5)/Conv2d(20, 12, 5)/; s/20 \* 4 \* 4/12 * 4 * 4/' tiny_net.h
started=$(date +%s)
expect_exit 0 cmake --build build --target tiny_net
expect_exit 0 "$OUMI_CPP" train -c config.yaml --plugin build/libtiny_net.so --overwrite "${short[@]}"
elapsed=$(($(date +%s) - started))
# 15 s is the promise on two idle cores; a shared machine gets room.
pass; [ "$elapsed" -le 45 ] || fail "edit, build and train took $elapsed s"
echo "edit, build, train: $elapsed s"
expect_different output/model.safetensors plugin.safetensors
# A misspelled keyword argument is found by the user's model as by ours.
expect_error 2 "num_clases" "$OUMI_CPP" train -c config.yaml --plugin build/libtiny_net.so --overwrite model.model_kwargs.num_clases=10

report_and_exit
