# `make demo` and `make test` are all that a fresh clone needs: each sets up .venv first.
#
# To choose:  PYTHON=python3.12   the interpreter (3.11 or 3.12; found by itself otherwise)
#             PIP_ARGS="..."      options for every pip install, such as another index
#             WORKERS=4           processes of pytest
#             PYTEST_ARGS="-k x"  options for pytest
#             FUZZ_ARGS="readers --seconds 90"   of make fuzz
#             TORTURE_ARGS="--kills 9 --terms 3 --seed 1" SWEEP_TORTURE_ARGS="--kills 5"   of make torture

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo format gallery check pytest test test-floors torture fuzz wheel clean

IS_OURS := import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))
PYTHON ?= $(shell for python in python3 python3.12 python3.11 python; do \
	"$$python" -c '$(IS_OURS)' >/dev/null 2>&1 && { echo "$$python"; break; }; done)
PIP_ARGS ?=
WORKERS ?= 2
PYTEST_ARGS ?=
TORTURE_ARGS ?=
SWEEP_TORTURE_ARGS ?=
FUZZ_ARGS ?=

BIN := .venv/bin
STAMP := .venv/.stamp
COSTS := $(CURDIR)/.venv/costs.tsv
FLOORS := .venv-floors/.stamp

# One thread a process: tests and demo share few cores, and sums then come out in the same order everywhere.
export OMP_NUM_THREADS ?= 1

# $(call timed,NAME,COMMAND): runs it, says how long it took, and keeps that for the table of `make test`.
timed = start=$${EPOCHREALTIME:-$$SECONDS}; $(2); \
	seconds=$$(awk -v a=$$start -v b=$${EPOCHREALTIME:-$$SECONDS} 'BEGIN { printf "%.1f", b - a }'); \
	printf '%s\t%s\n' "$(1)" "$$seconds" >> $(COSTS); printf '%-28s %7s s\n' "$(1)" "$$seconds"

# $(call pip,BIN,PINS): pins hold for what packages are built with as well (the second variable is newer pips' name).
pip = PIP_CONSTRAINT=$(2) PIP_BUILD_CONSTRAINT=$(2) $(1)/python -m pip install --quiet $(PIP_ARGS)

# Answered before anything is made: which interpreter, and what to do where there is none.
need_python = if [ -z "$(PYTHON)" ] || ! "$(PYTHON)" -c '$(IS_OURS)' 2>/dev/null; then \
	echo "dpo_lab needs Python 3.11 or 3.12 with its venv module (Debian: the package python3-venv)." >&2; \
	echo "Found: $$("$(or $(PYTHON),python3)" --version 2>&1 || true). Say which: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)" >&2; \
	exit 2; fi

help: ## these lines
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## .venv with the versions of constraints.txt, and nothing else

# Other pins, another environment; where only pyproject.toml changed, pip looks once more at what it asks for.
$(STAMP): pyproject.toml constraints.txt
	@$(need_python)
	$(if $(filter constraints.txt,$?),rm -rf .venv && "$(PYTHON)" -m venv .venv)
	@# torch by itself and first, so that a CPU build is taken where the index offers one.
	$(call pip,$(BIN),constraints.txt) torch
	$(call pip,$(BIN),constraints.txt) --editable '.[dev]'
	$(BIN)/python -m pip check
	@touch $@

demo: $(STAMP) ## the main job on the embedded data: a picture and a table in a few minutes
	$(BIN)/python scripts/demo.py

format: $(STAMP) ## ruff, in place
	$(BIN)/ruff check --fix --quiet --exit-zero
	$(BIN)/ruff format

gallery: $(STAMP) ## docs/losses.md and its pictures, from the losses themselves
	$(BIN)/python scripts/make_gallery.py

check: $(STAMP) ## ruff, pyright and the floors
	@rm -f $(COSTS)
	@$(call timed,ruff format,$(BIN)/ruff format --check --quiet)
	@$(call timed,ruff check,$(BIN)/ruff check --quiet)
	@$(call timed,lint-imports,$(BIN)/lint-imports --no-cache)
	@$(call timed,pyright,$(BIN)/pyright --warnings)

pytest: $(STAMP) ## the tests alone, in any working state
	$(BIN)/python -m pytest -n $(WORKERS) $(PYTEST_ARGS)

test: $(STAMP) ## everything that must pass, with a table of what each part costs
	@$(MAKE) --no-print-directory check
	COSTS=$(COSTS) $(BIN)/python -m pytest -n $(WORKERS) --durations=10 --durations-min=1 $(PYTEST_ARGS)

# Every direct requirement at the lowest version that pyproject.toml admits. The file changes when a floor does.
.venv-floors.txt: pyproject.toml constraints.txt tests/packaging/floors.py
	@$(need_python)
	"$(PYTHON)" tests/packaging/floors.py > $@.new
	@cmp --silent $@.new $@ && rm $@.new || mv $@.new $@

$(FLOORS): .venv-floors.txt
	rm -rf .venv-floors && "$(PYTHON)" -m venv .venv-floors
	$(call pip,.venv-floors/bin,$<) torch
	$(call pip,.venv-floors/bin,$<) --editable '.[dev]'
	.venv-floors/bin/python -m pip check
	@touch $@

test-floors: $(FLOORS) ## the tests with the lowest versions that pyproject.toml admits
	.venv-floors/bin/python -m pytest -n $(WORKERS) $(PYTEST_ARGS)

torture: $(STAMP) ## small runs and sweeps killed at random; each has to come to the bits of what was left in peace
	$(BIN)/python scripts/torture.py $(TORTURE_ARGS)
	$(BIN)/python scripts/torture_sweeps.py $(SWEEP_TORTURE_ARGS)

fuzz: $(STAMP) ## damaged input for readers, config, runs and report, 60 s each; takes atheris, or FUZZ_ARGS=--blind
	$(BIN)/python scripts/fuzz.py $(FUZZ_ARGS)

wheel: $(STAMP) ## dist/: the wheel and the source archive
	$(BIN)/python -m hatchling build

clean: ## everything that make and the tools made; runs and caches of runs stay
	rm -rf .venv .venv-floors .venv-floors.txt dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find dpo_lab tests scripts benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
