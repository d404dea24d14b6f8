# Everything runs in .venv, which each target makes or completes first. A second run installs nothing.
# TORCH_INDEX: a further package index for PyTorch, such as PyTorch's own CPU index, for those who want no CUDA build.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
METADATA := pyproject.toml constraints.txt aiida_xastruct/__init__.py
# Where Python may keep what it compiles, pip need not compile all that it installs: a third of installation's time.
PIP_INSTALL := $(BIN)/python -m pip install $(if $(PYTHONDONTWRITEBYTECODE),,--no-compile) --quiet --disable-pip-version-check -c constraints.txt \
	$(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))

# Where profiles of the tests are kept; production is PostgreSQL with RabbitMQ.
STORES := sqlite postgresql production
# What PostgreSQL could do otherwise than SQLite, without the long tests and those of whole runs.
STORE_TESTS := tests/test_stores.py tests/data tests/groups tests/parsers tests/tools tests/calculations/functions

.PHONY: help demo test test-postgresql test-all services lint audit docs metadata clean

help:
	@echo "make demo   predict spectra of real crystals and read a measured one (about 10 minutes the first time)"
	@echo "make test   run every test, on SQLite"
	@echo "make test-all   run every test on SQLite, all that reach a store on PostgreSQL and on PostgreSQL with RabbitMQ, and report which lines ran; installs the servers from Debian"
	@echo "make test-postgresql   run the short tests that touch the store on PostgreSQL"
	@echo "make lint   ruff, import contracts, bandit, mypy --strict"
	@echo "make audit   known weaknesses of what is installed: the list of safety-db, and pip-audit, which asks PyPI"
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

# Processes: tests/conftest.py says how many. The tests of a file, which share what they set up, run in one; a test that kills or hangs one
# ends the run.
SHARED := -n auto --dist loadfile --no-loadscope-reorder --max-worker-restart 0

# LEFT_OUT: a mark of tests that are not run.
test: $(VENV)/.installed-tests
	@$(BIN)/python -m pytest $(SHARED) --durations=15 $(if $(LEFT_OUT),-m "not $(LEFT_OUT)")

# Only the programs are needed: the tests start servers of their own.
services:
	@lacking=(); ls -d /usr/lib/postgresql/*/bin >/dev/null 2>&1 || lacking+=(postgresql); \
	[ "$(WITH_BROKER)" != yes ] || [ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] || lacking+=(rabbitmq-server); \
	sudo=; [ "$$(id -u)" -eq 0 ] || sudo=sudo; \
	[ "$${#lacking[@]}" -eq 0 ] || { $$sudo apt-get update -qq; \
	DEBIAN_FRONTEND=noninteractive $$sudo apt-get install -y -qq --no-install-recommends "$${lacking[@]}"; }

test-postgresql: $(VENV)/.installed-tests services
	@$(BIN)/python -m pytest $(SHARED) --store postgresql -m "store and not slow" -k "not browser" --durations=5 $(STORE_TESTS)

# On the first store everything runs and lines are counted; on the others run the tests that can reach a store, which is all but the engine's.
test-all: WITH_BROKER := yes
test-all: $(VENV)/.installed-tests services
	@status=0; only=(--cov --cov-report=); for store in $(STORES); do \
	echo "== $$store"; $(BIN)/python -m pytest $(SHARED) "$${only[@]}" --store $$store 2>&1 | tee $(VENV)/tests-$$store.log || status=1; \
	only=(-m store); done; \
	$(BIN)/coverage report --skip-covered --sort=cover; \
	for store in $(STORES); do echo "$$store: $$(tail -n 1 $(VENV)/tests-$$store.log)"; done; \
	package=$$($(BIN)/coverage report --format=total --fail-under=90) || status=1; \
	engine=$$($(BIN)/coverage report --format=total --fail-under=95 --include='aiida_xastruct/engine/*') || status=1; \
	echo "lines that ran: $$package % of the package, $$engine % of its engine (90 and 95 are asked for)"; \
	exit $$status

lint: $(VENV)/.installed-lint
	@$(BIN)/ruff check .
	@$(BIN)/python scripts/generate_metadata.py --check
	@$(BIN)/lint-imports
	@$(BIN)/bandit -q -c pyproject.toml -r aiida_xastruct
	@$(BIN)/mypy

# What is installed here against lists of known weaknesses; the second asks PyPI itself, for which no mirror answers.
audit: $(VENV)/.installed-lint
	@$(BIN)/python scripts/known_weaknesses.py
	@$(BIN)/pip-audit --skip-editable --progress-spinner off

docs: $(VENV)/.installed-docs
	@$(BIN)/sphinx-build -W --keep-going -b html docs docs/_build/html

metadata: | $(BIN)/python
	@$(BIN)/python scripts/generate_metadata.py

clean:
	rm -rf $(VENV) docs/_build build dist *.egg-info
