.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: help demo test test-slow test-all lint gpu format clean

help:  ## show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(INSTALLED): pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: $(INSTALLED)  ## MLR-SNet on digits, then the self-tuning schedule on text (3 minutes)
	$(BIN)/meta-lr meta-train experiment=quickstart
	$(BIN)/meta-lr transfer experiment=quickstart_transfer
	OMP_NUM_THREADS=1 $(BIN)/python examples/self_tuning.py

lint: $(INSTALLED)  ## formatting, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/basedpyright

test: lint  ## lint and the fast tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow"

test-slow: $(INSTALLED)  ## the slow tests alone
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -m slow

test-all: lint  ## lint and every test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

gpu: $(INSTALLED)  ## checks on a CUDA device, about three minutes; skipped without one
	$(BIN)/python -m benchmarks.gpu

format: $(INSTALLED)  ## format the code in place
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:  ## remove the environment, caches and build results
	rm -rf .venv build dist .pytest_cache .ruff_cache
