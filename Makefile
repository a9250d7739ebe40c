# Every target sets up what it needs first; the work itself is in tools/, one script a job.
#
#   PYTHON=/path/to/python   interpreter to build the environment from (its torch >= 2.10, if any, is kept)
#   UPCONV_VENV=DIR          environment to use or create (default .venv)
#   UPCONV_BUILD=DIR         CMake build folder (default build)
SHELL := /usr/bin/env bash
.DEFAULT_GOAL := help
.PHONY: help setup demo test lint format bench gpu-test gpu-bench wheel clean

UPCONV_VENV ?= .venv
export UPCONV_VENV
RUN := $(UPCONV_VENV)/bin

help:           ## list the targets
	@grep -E '^[a-z-]+: .*##|^[a-z-]+:  +##' Makefile | sed -E 's/:[^#]*## */\t/' | expand -t 12
	@echo "arguments of demo, bench: make demo ARGS=--full; some rows: make gpu-bench ONLY=L1/57"

setup:          ## system packages where missing, a private environment, the build
	@tools/setup.sh build

demo:           ## set up, then run the five models through the library
	@tools/setup.sh build
	@$(RUN)/upconv demo $(ARGS)

test:           ## set up, then run every test, C++ and Python
	@tools/setup.sh test
	@$(RUN)/python tools/run_tests.py $(ARGS)

lint:           ## check formatting and common mistakes (clang-format, ruff, shellcheck)
	@tools/setup.sh environment
	@tools/lint.sh

format:         ## rewrite the sources as lint wants them
	@tools/setup.sh environment
	@tools/lint.sh --fix

bench:          ## measure against PyTorch on this machine's CPU
	@tools/setup.sh build
	@$(RUN)/upconv bench --device cpu $(ARGS)

# On a GPU machine without a network: its own Python, torch, compiler; nothing is installed.
GPU_PYTHON := $(or $(PYTHON),python3)

gpu-test:       ## on a machine with an NVIDIA GPU: build, run tests/gpu, write evidence.json
	@$(GPU_PYTHON) tests/gpu/run.py $(ARGS)

gpu-bench:      ## on a machine with an NVIDIA GPU: build, measure against PyTorch (ONLY=L1/57)
	@$(GPU_PYTHON) tools/build_gpu.py
	@UPCONV_LIBRARY=$(CURDIR)/build-gpu/bindings/torch/_upconv_torch.so PYTHONPATH=$(CURDIR)/python \
	  $(GPU_PYTHON) -m upconv bench --device cuda $(if $(ONLY),--only $(ONLY)) $(ARGS)

wheel:          ## one wheel and one source archive in dist/
	@tools/setup.sh environment
	@tools/wheel.sh dist

clean:          ## remove builds and outputs; keeps the environment
	rm -rf build build-* dist out python/upconv/*.so
