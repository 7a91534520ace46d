# Every target works on a fresh machine: the virtual environment is made, from hashed locks, by the first that needs it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test chaos fuzz check fmt protos bench surge lock venv clean help
.DEFAULT_GOAL := help

help: ## Show the targets.
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

venv: $(STAMP) ## Make the virtual environment from the lock.

$(STAMP): requirements/dev.lock pyproject.toml scripts/venv.sh
	@PYTHON=$(PYTHON) scripts/venv.sh $(VENV)

demo: $(STAMP) ## Run one park day, end to end, and check its books.
	@$(BIN)/parkgate demo

test: $(STAMP) ## Run all tests.
	@scripts/system_packages.sh redis-benchmark=redis-tools chromium=chromium
	@$(BIN)/pytest -m "not system" -n 2 --dist loadfile
	@$(BIN)/pytest -m system -n 2 --dist loadfile

chaos: $(STAMP) ## Try every promise under every fault: some fifteen minutes, LONG=1 more than an hour, SEED=2 other seeds.
	@scripts/system_packages.sh ip=iproute2 nft=nftables strace=strace mkfs.ext4=e2fsprogs
	@$(BIN)/python -m tests.chaos

fuzz: $(STAMP) ## Try a million cases on every boundary that takes bytes, in some minutes.
	@$(BIN)/python -m tests.fuzz

check: $(STAMP) ## Style, types, import rules, protocol lint and drift.
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@PYTHONPATH=. $(BIN)/lint-imports
	@$(BIN)/buf lint protos
	@scripts/protos.sh --check

fmt: $(STAMP) ## Format the code.
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

protos: $(STAMP) ## Generate Python from the .proto files.
	@scripts/protos.sh

bench: $(STAMP) ## Measure scans per second against an echo, Redis alone and Postgres.
	@scripts/system_packages.sh redis-benchmark=redis-tools
	@$(BIN)/python -m loadtest.bench

surge: $(STAMP) ## Rehearse a quiet weekday in under two minutes; leaves surge-out/report.html.
	@$(BIN)/parkgate surge

lock: $(STAMP) ## Write the locks from pyproject.toml; they name no host.
	@$(BIN)/uv pip compile -q --generate-hashes --universal --no-header --no-annotate --python-version 3.11 --group dev pyproject.toml -o requirements/dev.lock
	@$(BIN)/uv pip compile -q --generate-hashes --universal --no-header --no-annotate --python-version 3.11 -c requirements/dev.lock pyproject.toml -o requirements/runtime.lock

clean: ## Remove what was built.
	rm -rf build $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
