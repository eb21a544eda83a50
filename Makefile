# From a bare Debian 12 machine to a tested build in one command; CMake does the work.
# `make help` lists the targets. Every target may be run again and skips what is done.

JOBS ?= $(shell nproc)
FUZZ_SECONDS ?= 60
SOURCES = $(shell find include src tests fuzz examples benchmarks -name '*.h' -o -name '*.cpp')

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev build test demo asan kernels-only test-arm fuzz format format-check tidy clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile

setup: ## Install system packages and .venv with torch, where missing
	@scripts/setup.sh

setup-dev: ## The same, and formatter, linter, clang, ccache
	@scripts/setup.sh dev

build: setup ## Build the release preset; the program is build/ecoformer
	cmake --preset release
	cmake --build --preset release --parallel $(JOBS)

test: build ## Build and run every test
	ctest --preset release

demo: build ## Train, convert, fine-tune and compare on ListOps; report in runs/demo
	scripts/demo.sh

asan: setup ## Build and test with AddressSanitizer and UndefinedBehaviorSanitizer
	cmake --preset asan
	cmake --build --preset asan --parallel $(JOBS)
	ctest --preset asan

kernels-only: ## Build and test ecoformer::kernels alone, without torch
	@scripts/setup.sh kernels
	cmake --preset kernels-only
	cmake --build --preset kernels-only --parallel $(JOBS)
	ctest --preset kernels-only

test-arm: ## Cross-compile ecoformer::kernels for 64-bit Arm and run its tests under qemu
	@scripts/setup.sh arm
	cmake --preset aarch64-qemu
	cmake --build --preset aarch64-qemu --parallel $(JOBS)
	ctest --preset aarch64-qemu

fuzz: setup-dev ## Run each fuzz target for FUZZ_SECONDS (60)
	cmake --preset fuzz
	cmake --build --preset fuzz --parallel $(JOBS)
	@for target in build-fuzz/fuzz/*_fuzzer; do \
	  name=$$(basename $$target _fuzzer); \
	  mkdir -p build-fuzz/found/$$name; \
	  $$target -max_total_time=$(FUZZ_SECONDS) -print_final_stats=1 -verbosity=0 \
	    -artifact_prefix=build-fuzz/found/$$name- \
	    build-fuzz/found/$$name fuzz/corpus/$$name || exit 1; \
	done

format: setup-dev ## Format all sources in place
	clang-format-14 -i $(SOURCES)

format-check: setup-dev ## Fail if a source is not formatted
	clang-format-14 --dry-run --Werror $(SOURCES)

tidy: setup-dev ## Lint all sources with clang-tidy
	cmake --preset tidy
	run-clang-tidy-14 -quiet -p build-tidy -j $(JOBS) '^$(CURDIR)/(src|tests|fuzz|examples|benchmarks)/'

clean: ## Remove the build folders; .venv and runs stay
	rm -rf build build-*
