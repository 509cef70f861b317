# make conformance   install, prove the golden vectors, judge torch, jax, scipy and numpy; fails on any surprise; report: build/results.html
# make test          lint, type check, tests
# make docs          make the site of docs/ in build/site; any warning fails
# make links         ask every address that the docs link to whether it is there (needs a network)
# make examples      build the C program and install the Node adapter of docs/examples (needs cc, node and npm)
# make backends      install every library that has an adapter, the compilers that some of them call, and the browser that the HTML
#                    report is tested with (Debian or Ubuntu; 5 GB);
#                    then make conformance BACKENDS="mlx tinygrad", and make test asks them all
# make deep          search MINUTES minutes for the inputs on which the reference is worst: tests/worst.json
# make accuracy      make the tables of docs/accuracy.md anew from it
# make spec          make the tables of docs/spec/choices.md anew from the dialects and the vectors
# make pictures      make the README's pictures of the report anew, from a run of a few backends (needs chromium: tools/browser.sh)
# make bits          the bits of the kernels on one thread and all, for other processors, with the lowest and the newest dependencies
# make arm64         the same on 64-bit Arm, emulated (Debian or Ubuntu on x86-64; installs an emulator)
# All keep their environment in .venv (bits: and .venv-*) and need python3 (3.11 or later) and nothing else; PYTHON=... names another one.

PYTHON ?= python3
BACKENDS ?= torch jax scipy numpy
RESULTS ?= build/results.jsonl
MINUTES ?= 30

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
SPHINX := $(BIN)/python -m sphinx --quiet --fresh-env --fail-on-warning --keep-going

# The versions that the project is tested with, for what it needs and for its build.
export PIP_CONSTRAINT := constraints.txt
export PIP_BUILD_CONSTRAINT := constraints.txt

.DEFAULT_GOAL := conformance
.PHONY: conformance test docs links backends examples bits arm64 lint deep accuracy spec pictures generate clean
.DELETE_ON_ERROR:

conformance: .venv/conformance.stamp
	$(BIN)/lossref vectors lint
	$(BIN)/lossref generate --check
	@mkdir -p $(dir $(RESULTS))
	$(BIN)/lossref run $(BACKENDS) --tier full --jobs 2 --json $(RESULTS) --html $(RESULTS:.jsonl=.html)

test: lint
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

# Made anew as a whole: the pages are also made of docstrings, known deviations and faults, whose changes the generator doesn't see.
docs: .venv/test.stamp
	rm -rf build/site
	$(SPHINX) -d build/doctrees docs build/site

links: .venv/test.stamp
	$(SPHINX) --builder linkcheck docs build/links

backends: .venv/backends.stamp

# Digests of a million results of every operation, and a look at the compiled code, wherever that differs.
bits: .venv/test.stamp .venv-lowest/stamp .venv-newest/stamp
	$(BIN)/lossref bits --check
	.venv-lowest/bin/lossref bits --check
	.venv-newest/bin/lossref bits --check
ifeq ($(shell uname -s),Linux)
	$(BIN)/lossref bits --check --threads 1
endif
ifneq ($(filter x86_64 amd64,$(shell uname -m)),)
	NUMBA_CPU_NAME=generic NUMBA_CPU_FEATURES= $(BIN)/lossref bits --check
	NUMBA_CPU_NAME=generic NUMBA_CPU_FEATURES= $(BIN)/python -m pytest --quiet tests/test_compiled.py
	NUMBA_CPU_NAME=haswell NUMBA_CPU_FEATURES= $(BIN)/lossref bits --check
	NUMBA_CPU_NAME=haswell NUMBA_CPU_FEATURES= $(BIN)/python -m pytest --quiet tests/test_compiled.py
endif

arm64: .venv/conformance.stamp
	tools/arm64.sh bits --check

# Programs behind the protocol: `lossref run exec:build/losses`, and the Node adapter's command stands in its file.
examples: build/losses docs/examples/tfjs/node_modules/.package-lock.json

build/losses: docs/examples/c/losses.c
	@mkdir -p build
	$(CC) -std=c99 -Wall -Wextra -Wpedantic -O2 -ffp-contract=off -o $@ $< -lm

docs/examples/tfjs/node_modules/.package-lock.json: docs/examples/tfjs/package.json docs/examples/tfjs/package-lock.json
	npm ci --prefix docs/examples/tfjs --ignore-scripts
	@touch $@

lint: .venv/test.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

deep: .venv/test.stamp
	$(BIN)/python -m tests.search --minutes $(MINUTES) --rounding
	$(BIN)/python -m tests.search.table

accuracy: .venv/test.stamp
	$(BIN)/python -m tests.search --minutes 0
	$(BIN)/python -m tests.search.table

spec: .venv/conformance.stamp
	$(BIN)/lossref dialects --write docs/spec/choices.md

# A picture may show that something is wrong, which is the status 1 of the run.
pictures: .venv/test.stamp
	tools/browser.sh
	@mkdir -p build
	$(BIN)/lossref run torch numpy scipy onnx --tier smoke --json build/pictures.jsonl || [ $$? = 1 ]
	$(BIN)/python -m tools.pictures build/pictures.jsonl docs/pictures

# Writes vectors/ anew, the tables that count them, and the file that cites their digest: only after a change that is meant to change them.
generate: .venv/conformance.stamp
	$(BIN)/lossref generate
	$(BIN)/lossref dialects --write docs/spec/choices.md
	$(BIN)/lossref cite --format cff > CITATION.cff

clean:
	rm -rf .venv .venv-lowest .venv-newest build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find conformance refimpl tests vectors -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp is as old as its last installation, so that only a change of what is asked for installs again.
.venv/conformance.stamp: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install --editable '.[torch,jax]'
	@touch $@

.venv/test.stamp: pyproject.toml constraints.txt .venv/conformance.stamp
	$(PIP) install --editable '.[torch,jax,bench,onnx,rivals,docs,test,lint]'
	@touch $@

# They share one environment, without conflicts.
.venv/backends.stamp: pyproject.toml constraints.txt tools/compilers.sh tools/browser.sh .venv/conformance.stamp
	tools/compilers.sh
	tools/browser.sh
	$(PIP) install --editable '.[torch,jax,tensorflow,keras,onnx,onnxruntime,mlx,paddle,tinygrad,autograd,flax]'
	@touch $@

# The dependencies alone, each at its lowest or its newest version; the code is run from here.
.venv-lowest/stamp: pyproject.toml constraints-lowest.txt
	$(PYTHON) -m venv --clear .venv-lowest
	PIP_CONSTRAINT=constraints-lowest.txt .venv-lowest/bin/python -m pip --disable-pip-version-check --quiet install --editable .
	@touch $@

.venv-newest/stamp: pyproject.toml
	$(PYTHON) -m venv --clear .venv-newest
	PIP_CONSTRAINT= .venv-newest/bin/python -m pip --disable-pip-version-check --quiet install --upgrade --editable .
	@touch $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo 'lossref needs Python 3.11 or later: name one with make PYTHON=python3.12' >&2; exit 1; }
	$(PYTHON) -m venv .venv
