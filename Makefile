# Everything a developer types. `make run` and `make test` set up what they need by themselves.
#
# The virtual environment is stamped with a hash of what it was made from, so a change of the locked
# requirements is installed at the next `make`, and nothing is done where nothing changed.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# Debian's own first: it is built with profile-guided optimisation, what version managers build mostly is not,
# and that is a fifth of the relay's speed (docs/performance.md).
PYTHON ?= $(shell /usr/bin/python3 -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
  && echo /usr/bin/python3 || echo python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed-$(shell cat requirements/dev.txt pyproject.toml | sha256sum | cut -c1-16)
PIP := $(BIN)/python -m pip --quiet --quiet --disable-pip-version-check --no-input
CONFIG ?= conf/dev.toml
# One worker per core up to four; a file's tests share one worker, so their fixtures are built once.
WORKERS ?= $(shell n=$$(nproc); echo $$((n < 4 ? n : 4)))
PYTEST := $(BIN)/pytest -n $(WORKERS) --dist loadfile
TESTS ?= tests

.PHONY: help venv run test slow crash interop interop-tools lint types format docs lock bench clean

help: ## list the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)$$/  make \1	\2/p' $(MAKEFILE_LIST) | expand -t 16

venv: $(STAMP) ## make .venv with the program at .venv/bin/backstamp

$(STAMP):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "make: $(PYTHON) is missing or older than 3.11; name another: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null \
	  || { echo "make: $(PYTHON) cannot make virtual environments; on Debian: apt-get install python3-venv" >&2; exit 1; }
	@echo "setting up $(VENV) with $(PYTHON) (once; a minute or two)"
	@$(PYTHON) -m venv --clear $(VENV)
	@$(PIP) install --require-hashes -r requirements/dev.txt
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@rm -f $(VENV)/installed-* && touch $@

run: $(STAMP) ## run the relay with conf/dev.toml, a sink behind it and one sample message
	@exec $(BIN)/backstamp demo --config $(CONFIG)

test: $(STAMP) ## run the tests, but the slow ones (TESTS=tests/unit for a part)
	@$(PYTEST) -q -m "not slow and not crash and not interop" $(TESTS)

slow: $(STAMP) ## run the longer proofs
	@$(PYTEST) -q -m slow $(TESTS)

# One file, but its tests share nothing: they may go to any worker.
crash: $(STAMP) ## a fault at every system call on the queue (needs strace), real power cuts (root)
	@$(PYTEST) --dist worksteal -q -m crash $(TESTS)

# REPORT=docs/interop.md writes the table of what passed, and nothing where something failed.
interop: $(STAMP) ## other programs, really run, as clients and servers (what is absent is skipped)
	@$(BIN)/pytest -n $(WORKERS) -q -m interop tests/interop $(if $(REPORT),--interop-report $(REPORT))

interop-tools: $(STAMP) ## as root, on Debian: install and unpack what `make interop` runs
	@$(BIN)/python tests/interop/tools.py

lint: $(STAMP) ## check style, formatting and which room imports which
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check . || { echo "make: not formatted; run: make format" >&2; exit 1; }
	@report=$$($(BIN)/lint-imports 2>&1) || { echo "$$report"; exit 1; }

types: $(STAMP) ## check the types
	@$(BIN)/mypy --no-error-summary

format: $(STAMP) ## format the code, fix what can be fixed
	@$(BIN)/ruff check --quiet --fix . ; $(BIN)/ruff format --quiet .

docs: $(STAMP) ## write the references in docs/ and conf/backstamp.schema.json from the code
	@$(BIN)/python -m backstamp.config
	@$(BIN)/python -m backstamp.telemetry

# Compiled with the oldest Python we support. --no-header and --no-emit-*: no registry addresses in the files.
COMPILE := $(VENV)/lock/bin/pip-compile --quiet --generate-hashes --no-strip-extras --allow-unsafe --no-header --no-annotate \
  --no-emit-index-url --no-emit-trusted-host --no-emit-find-links pyproject.toml

lock: ## compile requirements/*.txt from pyproject.toml (UPGRADE=--upgrade for newer versions)
	@test -x $(VENV)/lock/bin/pip-compile || { $(PYTHON) -m venv $(VENV)/lock && $(VENV)/lock/bin/pip --quiet install 'pip-tools>=7.5,<8'; }
	@$(COMPILE) $(UPGRADE) --output-file requirements/runtime.txt
	@$(COMPILE) $(UPGRADE) --only-build-deps --build-deps-for wheel --output-file requirements/build.txt
	@$(COMPILE) $(UPGRADE) --extra dev --build-deps-for editable --constraint requirements/runtime.txt \
	  --output-file requirements/dev.txt

bench: $(STAMP) ## measure the relay, and Postfix where it is installed (JSON)
	@$(BIN)/python bench/relay.py

clean: ## remove what the targets made; the queue in var/ stays
	@rm -rf $(VENV) .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage dist
	@find src tests bench -name __pycache__ -type d -prune -exec rm -rf {} +
