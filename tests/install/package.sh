#!/usr/bin/env bash
# cmake --install into an empty prefix; the installed binary runs from there, and examples/02_custom_model builds against it
# through find_package(oumi).
source "$(dirname "$0")/../lib.sh"

CASE=install
expect_exit 0 cmake --install "$OUMI_BUILD_DIR" --prefix "$WORK/prefix"
expect_file prefix/bin/oumi-cpp prefix/include/oumi/oumi.h
installed="$WORK/prefix/bin/oumi-cpp"
expect_exit 0 "$installed" --version
expect_exit 0 "$installed" env
expect_exit 0 env -u LD_LIBRARY_PATH LD_DEBUG=files "$installed" env
# The installed program must not lean on the build folder's own libraries.
pass; ! grep -E 'calling init' .stderr | grep -qE "$OUMI_BUILD_DIR/liboumi" || fail "the installed binary loads the build folder's libraries"

CASE=example
cp -r "$OUMI_SOURCE_DIR/examples/02_custom_model" example
rm -rf example/build example/output
cd example
expect_exit 0 cmake -S . -B build -G Ninja -DCMAKE_BUILD_TYPE=Release "-DCMAKE_PREFIX_PATH=$WORK/prefix"
expect_exit 0 cmake --build build --target custom_model  # the program besides is built by new_project.sh
short=(training.max_steps=20 training.logging_steps=10 training.eval_steps=20 'data.train.datasets[0].split=train[:2048]' 'data.validation.datasets[0].split=test[:500]')
expect_exit 0 "$installed" train -c config.yaml --plugin build/libcustom_model.so "${short[@]}"
expect_file output/model.safetensors
cp output/model.safetensors plugin.safetensors
# The page's model is SimpleModel: the same weights come of the built-in one.
expect_exit 0 "$installed" train -c config.yaml "${short[@]}" model.model_name=SimpleModel training.output_dir=builtin
expect_same builtin/model.safetensors plugin.safetensors

report_and_exit
