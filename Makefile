# Two commands are enough: `make run` and `make test`. `make help` lists the rest.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
LOCK   := $(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --upgrade --quiet --no-emit-index-url --custom-compile-command "make lock"

.DEFAULT_GOAL := help
.PHONY: help install keychain run dev test test-watch check format coverage bench bench-solana faults audit smoke lock wheel clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# Stamp files record when the environments were built: a changed lock file rebuilds them.
$(VENV)/.run: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, found %d.%d: make PYTHON=python3.12 ..." % sys.version_info[:2])'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing the pinned dependencies into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	@touch $@

$(VENV)/.dev: requirements-dev.txt $(VENV)/.run
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	@touch $@

install: $(VENV)/.run ## Build the environment in .venv only

keychain: $(VENV)/.run ## Add to .venv what signers outside this process need (docs/solana.md)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-solana-keychain.txt

run: $(VENV)/.run ## Start the service, with embedded PostgreSQL and Valkey unless DATABASE_URL and REDIS_URL are set
	@$(BIN)/python -m service serve

dev: $(VENV)/.dev ## Start the service and restart it when a file changes
	@$(BIN)/watchfiles '$(BIN)/python -m service serve' service sql

# Four processes, also on two cores, since most tests wait; a file stays in one process because its tests share fixtures.
# The files are taken in the sequence that tests/conftest.py puts them in.
test: $(VENV)/.dev ## Run all tests
	@$(BIN)/python -m pytest -q -n 4 --dist loadfile --no-loadscope-reorder

test-watch: $(VENV)/.dev ## Run the unit tests on every change
	@$(BIN)/watchfiles '$(BIN)/python -m pytest -q tests/unit' service sql tests

check: $(VENV)/.dev ## Lint, types, layers, formatting
	@$(BIN)/ruff check --no-cache .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --config setup.cfg
	@$(BIN)/hadolint Dockerfile

format: $(VENV)/.dev ## Fix the formatting
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

coverage: $(VENV)/.dev ## Run all tests and report their coverage
	@$(BIN)/coverage run -m pytest -q
	@$(BIN)/coverage report

bench: $(VENV)/.dev ## Measure orders per second and CPU beside a baseline, costs, routing, watchers, resting orders, latency (25 min)
	@$(BIN)/python -m tests.bench
	@$(BIN)/python -m tests.bench.costs
	@$(BIN)/python -m tests.bench.routing
	@$(BIN)/python -m tests.bench.watchers
	@$(BIN)/python -m tests.bench.triggers
	@$(BIN)/python -m tests.bench.resting
	@$(BIN)/python -m tests.bench.latency

bench-solana: $(VENV)/.dev ## Measure orders per second, CPU and calls per order on a local Solana chain
	@$(BIN)/python -m tests.bench.solana

faults: $(VENV)/.dev ## Run the long fault tests and print a report
	@$(BIN)/python -m pytest -q -m long -o faulthandler_timeout=0 tests

audit: $(VENV)/.run ## Check every order against the venue's ledger
	@$(BIN)/python -m service audit

# On another cluster than the sandbox the SOLANA_ settings say with which endpoints and wallet.
CLUSTER ?= sandbox
AMOUNT  ?= 0.01
smoke: $(VENV)/.run ## Trade small amounts on a Solana cluster and print a report: CLUSTER=sandbox or devnet, AMOUNT=0.01
	@$(BIN)/python -m service smoke --cluster $(CLUSTER) --amount $(AMOUNT) $(ARGS)

lock: $(VENV)/.dev ## Pin the newest versions allowed by pyproject.toml
	@$(LOCK) -o requirements.txt
	@$(LOCK) --extra solana-keychain -o requirements-solana-keychain.txt
	@$(LOCK) --extra dev -o requirements-dev.txt

wheel: $(VENV)/.dev ## Build the wheel into dist/
	@$(BIN)/python -m build --wheel --quiet

clean: ## Remove build artefacts (never the data)
	@rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage htmlcov
