# Needs only git, make, Python 3.11 with venv, and a network; uv is fetched into .uv/ when it is not on PATH.
SHELL := /bin/bash
PYTHON ?= python3.11
UV_VERSION := 0.13.9
UV := $(or $(shell command -v uv),.uv/bin/uv)
# Compiled once here: with PYTHONDONTWRITEBYTECODE set, every process would compile torch anew (11 s instead of 4 s).
SYNC := $(UV) sync --locked --quiet --compile-bytecode --inexact
# Wheels only, so that nobody needs a compiler. `--inexact` leaves the toolkits there when tests come after slow ones.
WHEELS := $(SYNC) --no-build --extra train --extra serve --extra driver
RUN := .venv/bin/python
# Or else every program that a test starts would compile this code anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo check test test-slow test-docker lint format setup clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: .venv/demo ## train, deploy and ask through the local SageMaker: no account, no download; RUNNER=docker runs the images
	$(RUN) -m examples.demo

check: lint ## lint and the tests that need neither a server nor a training: a minute
	OMP_NUM_THREADS=1 $(RUN) -m pytest -m pure -n 2 --dist loadfile --quiet $(ARGS)

test: .venv/dev ## the default tests: offline, no docker, up to thirty minutes; ARGS="tests/driver -k up" for some of them
	OMP_NUM_THREADS=1 $(RUN) -m pytest -m "not docker and not slow" -n 3 --dist loadfile $(ARGS) # three files at a time, since they often wait

test-slow: .venv/toolkits ## proofs that take minutes: kills at random moments; needs gcc, Python.h and Java 17
	OMP_WAIT_POLICY=passive $(RUN) -m pytest -m "slow and not docker" -n 2 --dist loadfile $(ARGS) # threads that wait do not spin

test-docker: .venv/dev ## build the images and prove them with docker run
	$(RUN) -m pytest -m "docker and not slow" $(ARGS)

lint: .venv/dev ## ruff, mypy, shellcheck
	$(RUN) -m ruff format --check .
	$(RUN) -m ruff check .
	$(RUN) -m mypy
	git ls-files '*.sh' .ci | xargs .venv/bin/shellcheck -x

format: .venv/dev ## rewrite the code in the house format
	$(RUN) -m ruff format .
	$(RUN) -m ruff check --fix .

setup: .venv/dev ## everything a developer needs, without running it

.venv/demo: uv.lock pyproject.toml | $(UV)
	$(WHEELS) --group demo
	@touch $@

.venv/dev: uv.lock pyproject.toml | $(UV)
	$(WHEELS) --extra pack --all-groups
	@touch .venv/demo $@

.venv/toolkits: uv.lock pyproject.toml | $(UV)
	$(SYNC) --all-extras --all-groups
	@touch .venv/demo .venv/dev $@

.uv/bin/uv:
	@$(PYTHON) -c 'import ensurepip' || { echo "No $(PYTHON) that can make virtual environments is on PATH." \
	    "Install it (Debian: apt-get install python3.11-venv), or name one: make PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv .uv
	.uv/bin/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

clean: ## remove what the targets above made
	rm -rf .venv .uv build
