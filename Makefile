# SPDX-License-Identifier: Apache-2.0
#
# A thin front for Meson (make, make install) and for tools/ (everything else).

BUILD ?= build

all: $(BUILD)/build.ninja
	ninja -C $(BUILD)

$(BUILD)/build.ninja:
	meson setup $(BUILD)

# These two do all their own set-up on a fresh Debian 12, as root.
check:
	@tools/install-packages build test
	@tools/check

demo:
	@tools/install-packages build demo
	@$(MAKE) --no-print-directory all
	@SLIM_BUILD=$(abspath $(BUILD)) tools/demo

# BENCH_ARGS is for "bench/bench run", such as BENCH_ARGS="--rounds 1 --seconds 1 --workloads rr".
bench:
	@tools/install-packages build bench
	@$(MAKE) --no-print-directory all
	@SLIM_BUILD=$(abspath $(BUILD)) bench/bench run --json $(BUILD)/bench.json $(BENCH_ARGS)
	@bench/bench report $(BUILD)/bench.json --dir $(BUILD)/bench-report
	@echo "Charts are in $(BUILD)/bench-report."

# The smoke tests under Debian's stock 6.1 kernel, in QEMU.
check-kernel:
	@tools/install-packages build test kernel
	@$(MAKE) --no-print-directory all
	@tools/check-kernel

# What clang-format would change; tools/check only looks.
format:
	find src tests bench -name '*.[ch]' -exec clang-format -i {} +

install: all
	meson install -C $(BUILD) --no-rebuild

clean:
	rm -rf $(BUILD) build-asan

.PHONY: all bench check check-kernel demo format install clean
