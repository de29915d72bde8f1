# `make demo` and `make test` set up everything they need in .venv on a fresh machine.
PYTHON ?= python3
BIN := .venv/bin
# Tests side by side; those that start Ray, or run notebooks, one after another: each fills a machine.
BESIDE := -n logical --maxprocesses 4 --dist loadgroup
SOURCES := fedlab attacks simulations tests benchmarks notebooks

.PHONY: demo test fast check notebooks clean

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: .venv/ready  ## run the quickstart and say where to look
	$(BIN)/fedlab run quickstart

test: .venv/ready  ## all tests
	$(BIN)/python -m pytest -q $(BESIDE)

fast: .venv/ready  ## the tests of daily work
	$(BIN)/python -m pytest -q $(BESIDE) -m "not slow"

check: .venv/ready  ## lint, format, types
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy

notebooks: .venv/ready  ## run the notebooks and keep what they show
	folder=$$(mktemp -d) && \
		$(BIN)/jupytext --quiet --to ipynb --execute --run-path $$folder notebooks/*.py && \
		rm -r $$folder

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist
