# make reproduce, make test, make lab: see `make help`.
SHELL := bash
PYTHON ?= $(shell for p in python3 python3.12 python3.11 python3.13 python; do \
	"$$p" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo "$$p" && break; done)
VENV := .venv
BIN := $(VENV)/bin
RUN ?= runs/default

.DEFAULT_GOAL := help
.PHONY: help prerequisites install reproduce test lint types unit chain lab

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

prerequisites:
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 is needed and none was found: install it, or run make PYTHON=/path/to/python3"; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) cannot make virtual environments: install its venv package (Debian, Ubuntu: python3-venv)"; exit 1; }
	@cc --version >/dev/null 2>&1 || { echo "A C compiler is needed to build pyradiomics: install gcc or clang (Debian, Ubuntu: build-essential; macOS: xcode-select --install)"; exit 1; }
	@cc -x c -c -o /dev/null - -I"$$($(PYTHON) -c 'import sysconfig; print(sysconfig.get_path("include"))')" <<< '#include <Python.h>' 2>/dev/null || { echo "The C headers of $(PYTHON) are missing: install its development package (Debian, Ubuntu: python3-dev)"; exit 1; }

install: $(VENV)/installed ## make .venv and install everything

$(VENV)/installed: pyproject.toml | prerequisites
	"$(PYTHON)" -m venv $(VENV)
	@echo 'installing the pinned packages into $(VENV): one to a few minutes'
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	@touch $@

reproduce: install ## run the whole study at the paper's size (115 synthetic patients) into runs/default
	$(BIN)/rps run --out $(RUN) --profile paper

test: lint types unit chain ## all of the next four

lint: install ## style and format of code and notebooks
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: install ## mypy on the package
	$(BIN)/mypy

unit: install ## the tests without the chain
	$(BIN)/pytest -n 2 --dist loadfile -m 'not chain'

chain: install ## the chain of notebooks on a small synthetic cohort, through papermill
	$(BIN)/pytest -n 2 --dist loadfile -m chain

lab: install ## open JupyterLab on the notebooks
	$(BIN)/jupyter lab --notebook-dir=. notebooks/00_start_here.ipynb
