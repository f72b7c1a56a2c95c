# make run    starts the engine (sets everything up the first time)
# make test   runs every test (sets everything up the first time)
# make lint   only the checks that run no code

CONFIG ?= config/bridge.yaml
TESTS ?= tests
WORKERS ?= 3
export PYTHON

.PHONY: run test lint
.DEFAULT_GOAL := run

run: .venv/.installed
	@exec .venv/bin/radbridge run --config $(CONFIG)

test: .venv/.installed lint
	@bash .ci/packages
	@.venv/bin/python -m pytest --numprocesses $(WORKERS) --dist loadfile $(TESTS)

lint: .venv/.installed
	@.venv/bin/ruff check .
	@.venv/bin/mypy

.venv/.installed: pyproject.toml
	@bash .ci/environment
