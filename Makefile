# Everything starts from Python 3.11 or newer, git and make; the rest is installed into .venv by package name.
PYTHON ?= $(or $(shell for name in python3 python3.14 python3.13 python3.12 python3.11; do \
  $$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null && echo $$name && break; done),python3)
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help run demo test screenshots check lint types contracts golden bench bench-peer chaos conformance hostile store-proofs lock clean

help: ## Show these commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(VENV)/.pip: ## (the environment itself)
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; say make PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	@touch $@

$(VENV)/.run: $(VENV)/.pip pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --editable .
	@touch $@

$(VENV)/.test: $(VENV)/.run
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --group test
	@touch $@

$(VENV)/.check: $(VENV)/.test
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --group check
	@touch $@

run: $(VENV)/.run ## Serve a scratch gateway in .run/ on loopback: /mcp and /sse; Ctrl-C ends it
	@$(BIN)/python examples/scratch_server.py

demo: $(VENV)/.run ## A whole agent conversation on a scratch gateway, over real stdio
	$(BIN)/python examples/agent_conversation.py

# Without compiled modules every process that a test starts, and every run, compiles the source anew.
test: export PYTHONDONTWRITEBYTECODE :=
test: $(VENV)/.test ## All tests, with branch coverage
	$(BIN)/python -m pytest -n auto --dist worksteal --cov --cov-report=term

screenshots: $(VENV)/.test ## Write docs/images/dashboard-*.png anew (needs chromium)
	VOICEGW_SCREENSHOTS=$(CURDIR)/docs/images $(BIN)/python -m pytest -q tests/e2e/dashboard/test_dashboard_looks.py -k screenshots

check: lint types contracts ## Lint, types, import contracts, generated files
	$(BIN)/python -m voicegw_mcp.tools.render --check

lint: $(VENV)/.check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.check
	$(BIN)/pyright

contracts: $(VENV)/.check
	$(BIN)/lint-imports

golden: $(VENV)/.test ## Write the generated files anew: tools.md, README's table, golden files, docs/http-api.md's examples
	$(BIN)/python -m voicegw_mcp.tools.render
	UPDATE_GOLDEN=1 $(BIN)/python -m pytest -q tests/unit/cli/test_help.py tests/protocol/test_api_document.py tests/protocol/test_api_examples.py tests/protocol/test_deploy.py

bench: $(VENV)/.test ## Measure start, memory, every reading tool by store size, writes; writes docs/performance.md (Linux)
	$(BIN)/python benchmarks/run.py --write-docs

bench-peer: $(VENV)/.test ## Measure against VoiceGateway, installed apart; writes docs/performance.md (Linux)
	$(BIN)/python benchmarks/run.py --only peer --write-docs

chaos: $(VENV)/.test ## Break changes on purpose: faults, kills, editors; writes docs/reliability.md (Linux)
	$(BIN)/python -m tests.chaos --write-docs

conformance: $(VENV)/.test ## The official suite, real clients, 100 restarts; writes docs/conformance.md (npm)
	$(BIN)/python -m tests.conformance --write-docs

hostile: $(VENV)/.test ## Attack the HTTP door: names, tokens, frames, bodies; writes docs/hostile.md
	$(BIN)/python -m tests.hostile --write-docs

store-proofs: $(VENV)/.test ## Back up under load, interrupt and damage stores; writes docs/store-proofs.md (Linux)
	$(BIN)/python -m tests.store_proofs --write-docs

lock: $(VENV)/.check ## Write constraints.txt anew from what is installed
	@echo '# What development and CI install; `make lock` writes it. Releases are bound by the ranges in pyproject.toml only.' > constraints.txt
	$(BIN)/python -m pip freeze --exclude-editable --exclude pip >> constraints.txt

clean: ## Remove the environment and what tools leave behind
	rm -rf $(VENV) .bench .pytest_cache .ruff_cache .hypothesis .coverage .coverage.* .import_linter_cache
