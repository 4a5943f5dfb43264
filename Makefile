# make reproduce, make test, make lab: see `make help`.
SHELL := bash
PYTHON ?= $(shell for p in python3 python3.12 python3.11 python3.13 python; do \
	"$$p" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo "$$p" && break; done)
VENV := .venv
BIN := $(VENV)/bin
RUN ?= runs/default
MINUTES ?= 60
KILLS ?= 30
SEED ?= 2026
GROUP ?= seed_$(SEED)
PATIENTS ?= 115
CLASS ?= notebooks/practise
TORCH := $(shell sed -n 's/.*"\(torch==[^"]*\)".*/\1/p' pyproject.toml)
PIP := $(BIN)/python -m pip install --quiet
LOCKED := $(PIP) --no-deps --require-hashes
UV := 0.13.9
COMPILE = .make/lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes $(UPGRADE) --custom-compile-command 'make lock'

.DEFAULT_GOAL := help
.PHONY: help prerequisites install lock reproduce test lint types unit chain browser cluster bench kills fuzz book docs lab exercises labs course slides

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

prerequisites:
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 is needed and none was found: install it, or run make PYTHON=/path/to/python3"; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) cannot make virtual environments: install its venv package (Debian, Ubuntu: python3-venv)"; exit 1; }
	@cc --version >/dev/null 2>&1 || { echo "A C compiler is needed to build pyradiomics: install gcc or clang (Debian, Ubuntu: build-essential; macOS: xcode-select --install)"; exit 1; }
	@cc -x c -c -o /dev/null - -I"$$($(PYTHON) -c 'import sysconfig; print(sysconfig.get_path("include"))')" <<< '#include <Python.h>' 2>/dev/null || { echo "The C headers of $(PYTHON) are missing: install its development package (Debian, Ubuntu: python3-dev)"; exit 1; }

install: $(VENV)/installed ## make .venv and install everything

# First what builds the packages that come as source, then the packages, each by its hash. PyTorch comes in several
# builds of one version. The usual one is locked by its hash too. A machine that has another, or whose pip is set up to
# take another (for CPU only: 2.3 GB less to load), keeps to that, by its version: that file is not the one with the hash.
$(VENV)/installed: pyproject.toml $(wildcard lock/*.txt) | prerequisites
	"$(PYTHON)" -m venv $(VENV)
	@echo 'installing the locked packages into $(VENV): one to a few minutes'
	$(LOCKED) --requirement lock/build.txt
	$(LOCKED) --no-build-isolation --requirement lock/packages.txt
	@build=$$($(PIP) --dry-run --no-deps --report - $(TORCH)) || exit 1; \
		if [[ $$build == *'"version": "$(patsubst torch==%,%,$(TORCH))"'* ]]; \
		then set -x; $(LOCKED) --requirement lock/torch.txt; else set -x; $(PIP) $(TORCH); fi
	$(PIP) --no-deps --no-build-isolation --editable .
	$(BIN)/python -m pip check
	@touch $@

lock: | prerequisites ## renew lock/ from pyproject.toml; with UPGRADE=--upgrade take the newest of what is not pinned
	"$(PYTHON)" -m venv .make/lock
	.make/lock/bin/python -m pip install --quiet uv==$(UV)
	@mkdir -p lock
	$(COMPILE) pyproject.toml --extra test --no-emit-package torch --output-file lock/packages.txt
	$(COMPILE) --group build --constraint lock/packages.txt --output-file lock/build.txt
	$(COMPILE) - --no-config --constraint lock/packages.txt --output-file lock/torch.txt <<< $(TORCH)

reproduce: install ## run the whole study at the paper's size (115 synthetic patients) into runs/default
	$(BIN)/rps run --out $(RUN) --profile paper

test: lint types unit chain ## all of the next four

lint: install ## style, format and spelling; notebooks without outputs
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/codespell
	$(BIN)/nbstripout --keep-id --verify notebooks/*.ipynb notebooks/exercises/*.ipynb notebooks/labs/*.ipynb

types: install ## mypy on the package
	$(BIN)/mypy

unit: install ## the tests without the chain, the browser and the cluster
	$(BIN)/pytest -n 2 --dist loadfile -m 'not chain and not browser and not cluster'

chain: install ## the chain of notebooks on a small synthetic cohort, through papermill
	$(BIN)/pytest -n 2 --dist loadfile -m chain

browser: install ## move every panel by keys and clicks in JupyterLab; needs chromium and chromedriver
	$(BIN)/pytest -m browser -rs tests/widgets

cluster: install ## a Slurm of one node and a dask scheduler, a worker of each killed midway; about three minutes
	$(BIN)/pytest -m cluster -rs

bench: install ## time this repository beside what it could have been built from; PEERS=PYTHON has mirp and pictologics
	$(BIN)/python -m benchmarks.side_by_side $(if $(PEERS),--peers $(PEERS))

kills: install ## kill a small study at KILLS=30 moments, damage what it wrote, compare with an undisturbed one; 20 minutes
	$(BIN)/python -m benchmarks.kills --kills $(KILLS)

fuzz: install ## damage files for MINUTES=60 at every door, and keep what breaks one
	$(BIN)/python -m tests.fuzz $(MINUTES)

exercises: install ## write the exercises without their solutions into CLASS=notebooks/practise
	$(BIN)/python -m rps_utils.course.student notebooks/exercises $(CLASS)

labs: install ## execute all labs with their solutions, for SEED=2026, and record what it took
	$(BIN)/python -m rps_utils.course.labs docs/course/labs_run.csv $(SEED)

course: install ## a cohort for a class: SEED=2026 GROUP=seed_2026 PATIENTS=115 into course/, the key kept apart
	@test ! -e course/$(GROUP) || { echo "course/$(GROUP) is there: move it away, or name another GROUP"; exit 1; }
	$(BIN)/rps phantom course/$(GROUP)/key/cohort --seed $(SEED) --patients $(PATIENTS)
	$(BIN)/python -m rps_utils.course.classroom course/$(GROUP)/key/cohort course/$(GROUP)/students course/$(GROUP)/key $(SEED)

book: install ## a site of the executed notebooks of RUN=runs/default, for reading offline: build/book/html/index.html
	$(BIN)/python docs/book/make_book.py $(RUN) build/book

slides: install ## the figures of RUN=runs/default as pictures for slides, with captions and alternative texts, into build/slides
	$(BIN)/python -m rps_utils.course.slides $(RUN) build/slides

docs: install ## write docs/architecture.md anew from the code and the notebooks
	$(BIN)/python docs/architecture.py

data/phantom/data_manifest.csv: | install
	$(BIN)/rps phantom data/phantom

lab: install data/phantom/data_manifest.csv ## render the synthetic patients if they are not there, and open JupyterLab
	$(BIN)/jupyter lab --notebook-dir=. notebooks/00_start_here.ipynb
