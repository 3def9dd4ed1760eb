# pqhost. `make demo` and `make test` set up what they need on a fresh clone.
SHELL := /bin/bash
VENV := tools/venv
PYTHON_SOURCES := runtime/python guest-sdk/python examples benches

.PHONY: demo build test check fix bench runtime setup-lint

demo: build ## Serve the example tenant
	@cargo run --quiet -- demo

build: runtime ## Build the program
	@cargo build

runtime: ## Build the Python runtime that the program embeds
	@runtime/build.sh

test: runtime ## Run all tests
	@tests/run.sh

check: runtime setup-lint ## What CI checks besides tests
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --lib
	@if command -v cargo-deny >/dev/null; then cargo deny --log-level error check; \
	elif [[ -n "$$CI" ]]; then echo "error: cargo-deny is not installed" >&2; exit 1; \
	else echo "SKIPPED: cargo deny (cargo install --locked cargo-deny)" >&2; fi
	$(VENV)/bin/ruff check $(PYTHON_SOURCES)
	$(VENV)/bin/ruff format --check $(PYTHON_SOURCES)

fix: setup-lint ## Mend what a machine can
	cargo fmt
	cargo clippy --fix --allow-dirty --allow-staged --all-targets
	$(VENV)/bin/ruff check --fix $(PYTHON_SOURCES)
	$(VENV)/bin/ruff format $(PYTHON_SOURCES)

bench: runtime ## Measure against FastAPI and Flask
	@benches/run.sh

setup-lint:
	@[[ -x $(VENV)/bin/ruff ]] || python3 -m venv $(VENV)
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check --require-hashes -r tools/requirements.txt
