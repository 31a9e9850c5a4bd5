# `make` alone explains itself. Everything runs in .venv, which the first target makes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export HF_HUB_OFFLINE ?= 1

.DEFAULT_GOAL := help
.PHONY: help setup demo test soak check bench audit

help: ## show this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(VENV)/.developing: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

setup: $(VENV)/.developing ## make .venv with everything for developing

demo: $(VENV)/.installed ## distil the built-in teachers for both tasks, offline
	$(BIN)/distill --task summarization
	$(BIN)/distill --task translation

test: $(VENV)/.developing ## run all tests
	$(BIN)/python -m pytest -n auto --dist worksteal

soak: $(VENV)/.developing ## kill and resume runs many times, on one process and on two
	$(BIN)/python -m pytest -m soak tests/system

check: $(VENV)/.developing ## style, types and the import rule
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

bench: $(VENV)/.developing ## measure; one JSON line each
	for name in step memory encoder padding cache generate labels corrupted decoding startup scaling gpu; do \
		$(BIN)/python -m benchmarks.$$name || exit; \
	done

audit: $(VENV)/.developing ## look for known vulnerabilities in the pinned versions
	$(BIN)/pip-audit -r constraints.txt --no-deps --disable-pip
