# Everything runs in .venv, which each target makes or completes first. A second run installs nothing.
# TORCH_INDEX: a further package index for PyTorch, such as PyTorch's own CPU index, for those who want no CUDA build.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
METADATA := pyproject.toml constraints.txt aiida_xastruct/__init__.py
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
	$(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))

.PHONY: help demo test lint docs metadata clean

help:
	@echo "make demo   predict spectra of real crystals and read a measured one (about 10 minutes the first time)"
	@echo "make test   run every test"
	@echo "make lint   ruff, import contracts, mypy --strict"
	@echo "make docs   build the documentation into docs/_build/html"

# One stamp per set of dependencies: none is runtime only.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "Python 3.10 or newer is needed; set PYTHON."; exit 1; }
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.installed-runtime: $(METADATA) | $(BIN)/python
	@start=$$(date +%s); $(PIP_INSTALL) -e .; echo "installation (runtime): $$(( $$(date +%s) - start )) s"; touch $@

$(VENV)/.installed-%: $(METADATA) | $(BIN)/python
	@start=$$(date +%s); $(PIP_INSTALL) -e '.[$*]'; echo "installation ($*): $$(( $$(date +%s) - start )) s"; touch $@

demo: $(VENV)/.installed-runtime
	@start=$$(date +%s); $(BIN)/python examples/demo.py; echo "run: $$(( $$(date +%s) - start )) s"

test: $(VENV)/.installed-tests
	@$(BIN)/python -m pytest --durations=15

lint: $(VENV)/.installed-lint
	@$(BIN)/ruff check .
	@$(BIN)/python scripts/generate_metadata.py --check
	@$(BIN)/lint-imports
	@$(BIN)/mypy

docs: $(VENV)/.installed-docs
	@$(BIN)/sphinx-build -W --keep-going -b html docs docs/_build/html

metadata: | $(BIN)/python
	@$(BIN)/python scripts/generate_metadata.py

clean:
	rm -rf $(VENV) docs/_build build dist *.egg-info
