# Python >= 3.11 (with venv) and a package index are all that these targets need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PORT ?= 8402
SANDBOX_PORT ?= 8899
JOBS ?= 2
MINUTES ?= 0
SIZE ?= 1000000
CALLS ?= 5000
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help run test check lock bench-client bench-queries bench-storage bench-ingest

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# pip 23 is the oldest that Python 3.11 brings; --require-hashes refuses anything that the lock does not name.
$(VENV)/installed: requirements/dev.txt pyproject.toml clients/python/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "tollwatch needs Python 3.11 or newer, this is %s: make PYTHON=python3.12 …" % sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable . --editable clients/python
	@touch $@

run: $(VENV)/installed ## embedded database, sandbox, collector, API: http://127.0.0.1:8402 (PORT=, SANDBOX_PORT=)
	@exec $(BIN)/tollwatch up --port $(PORT) --sandbox-port $(SANDBOX_PORT)

test: $(VENV)/installed ## every test, on every database edition found on this machine (JOBS= processes)
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

check: $(VENV)/installed ## lint, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench-client: $(VENV)/installed ## what the client's transport and recorder cost an agent's call (CALLS=)
	@$(BIN)/python -m bench.client --calls $(CALLS) $(ARGS)

bench-queries: $(VENV)/installed ## how long every read and panel takes (SIZE= rows of payments, requests, samples)
	@$(BIN)/python -m bench.queries --size $(SIZE) $(ARGS)

bench-ingest: $(VENV)/installed ## events a second, beside the bare database and rivals (MINUTES=: memory over time)
	@$(BIN)/python -m bench.ingest --minutes $(MINUTES) $(ARGS)

bench-storage: $(VENV)/installed ## bytes per row, as rows and in columnstore (SIZE=)
	@$(BIN)/python -m bench.storage --size $(SIZE) $(ARGS)

lock: ## rewrite requirements/*.txt from pyproject.toml (needs uv)
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	  --extra embedded --extra sandbox --extra dev pyproject.toml -o requirements/dev.txt
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	  -c requirements/dev.txt pyproject.toml -o requirements/production.txt
