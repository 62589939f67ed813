# Needs only Python 3.11, make and a network; uv is fetched into .uv/ when it is not on PATH.
SHELL := /bin/bash
PYTHON ?= python3.11
UV_VERSION := 0.13.9
UV := $(or $(shell command -v uv),.uv/bin/uv)
# Compiled once here: with PYTHONDONTWRITEBYTECODE set, every process would compile torch anew (11 s instead of 4 s).
SYNC := $(UV) sync --locked --quiet --compile-bytecode --all-extras
RUN := .venv/bin/python

.PHONY: help demo test test-slow test-docker lint format setup clean

help: ## list the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1 | \2/p' $(MAKEFILE_LIST) | column -t -s '|'

demo: .venv/demo ## train, deploy and ask through the local SageMaker: no account, no download; RUNNER=docker runs the images
	$(RUN) -m examples.demo

test: .venv/dev ## the default tests: offline, no docker, up to twenty minutes
	OMP_NUM_THREADS=1 $(RUN) -m pytest -m "not docker and not slow" -n 2 --dist loadfile # two files at a time, a thread each

test-slow: .venv/dev ## proofs that take minutes: kills at random moments
	OMP_WAIT_POLICY=passive $(RUN) -m pytest -m "slow and not docker" -n 2 --dist loadfile # threads that wait do not spin

test-docker: .venv/dev ## build the images and prove them with docker run
	$(RUN) -m pytest -m "docker and not slow"

lint: .venv/dev ## ruff, mypy, shellcheck
	$(RUN) -m ruff format --check .
	$(RUN) -m ruff check .
	$(RUN) -m mypy
	git ls-files '*.sh' .ci/run | xargs .venv/bin/shellcheck -x

format: .venv/dev ## rewrite the code in the house format
	$(RUN) -m ruff format .
	$(RUN) -m ruff check --fix .

setup: .venv/dev ## everything a developer needs, without running it

.venv/demo: uv.lock pyproject.toml | $(UV)
	$(SYNC) --group demo
	@touch $@

.venv/dev: uv.lock pyproject.toml | $(UV)
	$(SYNC) --all-groups
	@touch .venv/demo $@

.uv/bin/uv:
	$(PYTHON) -m venv .uv
	.uv/bin/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

clean: ## remove what the targets above made
	rm -rf .venv .uv build
