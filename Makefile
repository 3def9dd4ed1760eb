# pqhost. `make demo` and `make test` set up what they need on a fresh clone; `make` lists the targets.
SHELL := /bin/bash
VENV := tools/venv
PYTHON_SOURCES := $(wildcard runtime/python guest-sdk/python examples benches src/cli/vendor.py tests/fidelity)

.DEFAULT_GOAL := help
.PHONY: help demo build test contract fidelity check fix bench runtime setup lint-tools

help:
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile | expand -t 10

demo: build ## Serve a tenant with example data and endpoints
	@cargo run --quiet -- demo

test: runtime ## Run all tests
	@tests/run.sh

fidelity: runtime ## Run CPython's own tests in the sandbox and write docs/FIDELITY.md
	@PQHOST_WRITE_FIDELITY=1 cargo test --test integration fidelity::

check: runtime lint-tools ## What CI checks besides tests
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --lib
	tools/deny.sh
	$(VENV)/bin/ruff check $(PYTHON_SOURCES)
	$(VENV)/bin/ruff format --check $(PYTHON_SOURCES)
	$(VENV)/bin/mypy --config-file guest-sdk/python/mypy.ini

fix: runtime lint-tools ## Mend what a machine can
	cargo fmt --all
	cargo clippy --workspace --fix --allow-dirty --allow-staged --all-targets
	$(VENV)/bin/ruff check --fix $(PYTHON_SOURCES)
	$(VENV)/bin/ruff format $(PYTHON_SOURCES)

contract: runtime ## Hold a running host against its own OpenAPI documents
	@tests/contract/run.sh

bench: runtime ## Measure against FastAPI, Flask and axum
	@benches/run.sh

build: runtime ## Build the program
	@cargo build

runtime: ## Build the Python runtime that the program embeds, if it is out of date
	@runtime/build.sh

setup: runtime lint-tools ## Make everything that the other targets need
	@cargo fetch --locked

lint-tools:
	@[[ -x $(VENV)/bin/pip ]] || python3 -m venv $(VENV)
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check --require-hashes -r tools/requirements.txt
