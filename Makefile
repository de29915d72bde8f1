# Every target installs what it needs into .venv first, also on a fresh machine.
PYTHON ?= python3
BIN := .venv/bin
# Tests run side by side, except for those that fill a machine (Ray, notebooks): --dist loadgroup.
# One process more than there are cores, since some tests wait for others' programs.
CORES := $(shell getconf _NPROCESSORS_ONLN)
BESIDE := -n $(shell expr $(CORES) + 1) --maxprocesses 4 --dist loadgroup
SOURCES := fedlab attacks simulations tests benchmarks notebooks docs

.DEFAULT_GOAL := help
.PHONY: help demo test fast everything newest check format manual claims notebooks clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	@echo "installing fedlab and its tests into .venv: some minutes, 7 GB"
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: .venv/ready  ## run the quickstart scenario (1 minute) and print where its results are
	$(BIN)/fedlab run quickstart

test: .venv/ready  ## run the tests, notebooks included, as CI does (half an hour)
	$(BIN)/python -m pytest -q $(BESIDE) -m "not long"

fast: .venv/ready  ## run the tests without the slow ones
	$(BIN)/python -m pytest -q $(BESIDE) -m "not slow and not long"

everything: .venv/ready  ## run all tests, also those of minutes each: before a release
	$(BIN)/python -m pytest -q $(BESIDE)

newest:  ## run the tests with the newest release of every dependency, in a fresh environment
	PYTHON=$(PYTHON) .ci/newest

check: .venv/ready  ## check style, format, import contracts and types; change nothing
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/lint-imports --no-logo
	$(BIN)/mypy

format: .venv/ready  ## format the sources and repair what ruff can repair
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

manual: .venv/ready  ## build the manual as HTML; warnings are errors
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet --conf-dir docs . build/manual
	@echo build/manual/docs/index.html

claims: .venv/ready  ## measure the quoted figures again (hours); DATA=cifar10.npz for images
	$(BIN)/python -m benchmarks.claims --again $(if $(DATA),--data $(DATA))

notebooks: .venv/ready  ## run the notebooks and store their output
	folder=$$(mktemp -d) && \
		$(BIN)/jupytext --quiet --to ipynb --execute --run-path $$folder notebooks/*.py && \
		rm -r $$folder

clean:  ## remove .venv, caches and built packages
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis build dist
