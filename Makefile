# The commands a newcomer types. Everything else is CMake (see CMakePresets.json).
JOBS ?= $(shell nproc)
BUILD := build/release
BINARY := $(BUILD)/oumi-cpp

.PHONY: help setup configure build demo test test-faults bench bench-gate test-asan test-tsan format lint layers clean

help:
	@echo "make demo       set up, build, train SimpleModel on Fashion-MNIST, print its test accuracy"
	@echo "make build      set up and build $(BINARY)"
	@echo "make test       set up, build, run every test"
	@echo "make test-faults  faults alone, all cases: 100 kills, every file damaged, every step resumed from (about half an hour)"
	@echo "make bench      the side-by-side table against Python peers (installs them below build/)"
	@echo "make bench-gate BASE=COMMIT  this build beside an earlier one (by default the last release), in pairs; fails when it is slower"
	@echo "make test-asan  tests under AddressSanitizer and UBSan;  make test-tsan  under ThreadSanitizer"
	@echo "make format     clang-format over the sources;  make lint  clang-tidy over the sources"

setup:
	@scripts/setup.sh

configure: setup
	@scripts/configure.sh release

build: configure
	@cmake --build $(BUILD) --parallel $(JOBS) --target oumi-cpp oumi_bridge

# Images need no tokenizers, so the demo leaves the Rust crate out.
demo: configure
	@cmake --build $(BUILD) --parallel $(JOBS) --target oumi-cpp
	@scripts/demo.sh $(BINARY)

test: configure
	@scripts/test.sh release $(JOBS)

test-faults: build
	@cmake --build $(BUILD) --parallel $(JOBS) --target oumi_checkpoint_test oumi_distributed_test oumi_data_test
	@ctest --test-dir $(BUILD) -C faults -L '^faults-full$$' --output-on-failure --no-tests=error
	@ctest --test-dir $(BUILD) -R '^(checkpoint|distributed|data)$$' --output-on-failure --no-tests=error

bench: build
	@cmake --build $(BUILD) --parallel $(JOBS) --target benchmarks
	@benchmarks/run.sh $(BUILD)

bench-gate: build
	@cmake --build $(BUILD) --parallel $(JOBS) --target benchmarks
	@benchmarks/gate.sh $(BUILD)

test-asan: setup
	@scripts/configure.sh asan && scripts/test.sh asan $(JOBS)

test-tsan: setup
	@scripts/configure.sh tsan && scripts/test.sh tsan $(JOBS)

layers:
	@python3 scripts/check_layers.py

format:
	@git ls-files '*.h' '*.cpp' | xargs clang-format -i

lint: configure
	@git ls-files 'oumi/*.cpp' 'cli/*.cpp' | xargs clang-tidy -p $(BUILD) --quiet

clean:
	@rm -rf build/release build/dev build/asan build/tsan
