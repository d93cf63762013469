# Every target prepares what it needs. The environment is brought up to date when pyproject.toml
# changes; after a change of PYTHON run `make clean` first.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN := $(VENV)/.ready-run
DEV := $(VENV)/.ready-dev
# Many tests wait for servers and clocks: more processes than cores have the suite done in half the time.
PARALLEL := -n 4 --dist loadfile
PURE := src/settled/states.py,src/settled/record.py,src/settled/failure/*,src/settled/codec/*,src/settled/errors.py,src/settled/url.py

MAKEFLAGS += --no-print-directory
.DELETE_ON_ERROR:
.PHONY: help demo celery-demo servers test coverage soak bench bench-once check format docs clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: $(RUN) ## Survey the standard library; BACKEND=URL chooses another store
	@$(BIN)/python examples/demo.py $(if $(BACKEND),--backend $(BACKEND))

celery-demo: $(RUN) ## A Celery app on settled, broker and worker included; BACKEND=settled+URL chooses another store
	@$(BIN)/python examples/celery_app/run.py $(if $(BACKEND),--backend '$(BACKEND)')

servers: $(DEV) ## Install the servers that tests and benchmarks run, where they are missing
	@$(BIN)/python -m tests.servers

test: servers ## Run the whole suite; TESTFLAGS='-k chord' runs a part of it
	$(BIN)/python -m pytest -q $(PARALLEL) $(TESTFLAGS)

coverage: servers ## Run the suite with branch coverage; the pure modules must reach 100 %
	$(BIN)/coverage erase
	$(BIN)/python -m pytest -q --cov --cov-report= $(TESTFLAGS)
	$(BIN)/coverage report
	$(BIN)/coverage report --include=$(PURE) --fail-under=100

soak: servers ## Run the tests that take minutes
	$(BIN)/python -m pytest -q -m soak --timeout=3600 $(TESTFLAGS)

bench: servers ## Measure, and fail where a bound is missed; ONLY=name runs one benchmark
	$(BIN)/python -m benchmarks $(if $(ONLY),--only $(ONLY))

bench-once: servers ## Run each benchmark for one iteration, judging nothing
	$(BIN)/python -m benchmarks --once $(if $(ONLY),--only $(ONLY))

check: $(DEV) ## Format, lint, types, layers, docs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pyright
	$(BIN)/python -m pytest -q tests/test_architecture.py
	$(BIN)/zensical build --strict

format: $(DEV) ## Put the code in the house's format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(DEV) ## Build the documentation into site/
	$(BIN)/zensical build --strict

clean: ## Remove the environment and everything built
	rm -rf $(VENV) site dist .cache .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(RUN): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[cli,redis,celery]' 'celery[redis]'
	@touch $@

$(DEV): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[test,check,docs]'
	@touch $@ $(RUN)
