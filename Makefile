# `make` alone explains itself. Everything runs in .venv, which the first target makes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LOWEST := build/lowest
export HF_HUB_OFFLINE ?= 1

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all test-lowest node soak cov check docs bench audit wheel

help: ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 13

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

test: $(VENV)/.developing ## run the tests, the code's on representative architectures
	$(BIN)/python -m pytest -n auto --dist worksteal

test-all: $(VENV)/.developing ## run the tests on all architectures
	$(BIN)/python -m pytest -n auto --dist worksteal --all-families

$(LOWEST)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv --clear $(LOWEST)
	$(PYTHON) -m tests.project.lowest > $(LOWEST)/constraints.txt
	$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check -c $(LOWEST)/constraints.txt '.[dev]'
	@touch $@

test-lowest: $(LOWEST)/.installed ## run the tests of the code with the lowest supported torch, transformers and Lightning
	PYTHONPATH=$(CURDIR) $(LOWEST)/bin/python -m pytest -n auto --dist worksteal --ignore tests/system --ignore tests/project

node: tests/browser/package-lock.json ## install transformers.js, for the tests of ONNX folders under node and in a browser
	npm ci --ignore-scripts --no-audit --no-fund --prefix tests/browser

soak: $(VENV)/.developing ## kill and resume runs many times, on one process and on two
	$(BIN)/python -m pytest -m soak tests/system

cov: $(VENV)/.developing ## run the tests and report which lines they miss
	$(BIN)/python -m pytest -n auto --dist worksteal --cov=seq2seq_distill --cov-report=term-missing:skip-covered

check: $(VENV)/.developing ## check style, types, the import contracts and the workflows
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.citation-file-format CITATION.cff

docs: $(VENV)/.developing ## build the documentation into build/site; a dead link or a missing name is an error
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	$(BIN)/zensical build --clean --strict

wheel: $(VENV)/.developing ## build sdist and wheel, check them, and run the wheel in an empty environment
	rm -rf build/wheel && $(BIN)/python -m build --outdir build/wheel .
	$(BIN)/twine check --strict build/wheel/*
	$(PYTHON) -m venv build/wheel/venv
	build/wheel/venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt build/wheel/*.whl
	build/wheel/venv/bin/python -m pip check
	cd build/wheel && venv/bin/distill --version && venv/bin/distill --help > /dev/null
	cd build/wheel && venv/bin/distill --task summarization --trainer.max_steps 20 --trainer.val_check_interval 20 \
		--eval.n_val 8 --eval.n_test 8 --eval.n_speed 2

bench: $(VENV)/.developing ## measure; one JSON line each
	for name in step memory encoder padding cache generate labels server corrupted decoding shortlist translate_file \
		startup scaling gpu; do \
		$(BIN)/python -m benchmarks.$$name || exit; \
	done

audit: $(VENV)/.developing ## look for known vulnerabilities in the pinned versions
	$(BIN)/pip-audit -r constraints.txt --no-deps --disable-pip
