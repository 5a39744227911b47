# Every target makes its own environment in $(VENV) if there is none, and refreshes it
# when pyproject.toml or constraints.txt has changed.

PYTHON ?= python3
VENV ?= .venv
JOBS ?= auto

BIN := $(VENV)/bin
# -qq: pip prints errors only.
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt
CORE := $(VENV)/.installed-core
DEV := $(VENV)/.installed-dev
# A worker a core with one thread each: faster than threads, and the same bits everywhere.
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1

.PHONY: help demo test slow check format docs clean
.DEFAULT_GOAL := help

help: ## Print this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-7s %s\n", $$1, $$2 }' Makefile

demo: $(CORE) ## Reprogram a small network to read digits: a table, a picture, a page
	$(BIN)/reprogram demo

test: $(DEV) ## Run the tests and the examples in docstrings
	$(ONE_THREAD) $(BIN)/python -m pytest -n $(JOBS)

slow: $(DEV) ## Run the long tests
	$(BIN)/python -m pytest -m slow

check: $(DEV) ## Check format, lint, types and documentation: warnings are errors
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/sphinx-build -q -W --keep-going -b html docs docs/_build/html

format: $(DEV) ## Format the code and mend what lint can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(DEV) ## Build the documentation
	$(BIN)/sphinx-build -W --keep-going -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

clean: ## Remove the environment and everything that a command made here
	rm -rf $(VENV) .venv-ci .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist demo \
		docs/_build docs/generated
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(CORE): pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing reprogram into $(VENV): some minutes, PyTorch is large."
	$(PIP) -e .
	@touch $@

$(DEV): pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing reprogram and its development tools into $(VENV): some minutes, PyTorch is large."
	$(PIP) -e ".[corruptions,data,dev,docs,onnx,ot,ray,slurm,track]"
	@touch $(CORE) $@
