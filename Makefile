.DEFAULT_GOAL := help
BIN := .venv/bin

.PHONY: help
help: ## Show the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

.PHONY: install
install: ## Make .venv with everything for running, testing and checking
	@bash -c 'set -euo pipefail; . scripts/install.sh'
	@cmp -s requirements-dev.txt .venv/installed-dev || \
	    { $(BIN)/python -m pip install --quiet -r requirements-dev.txt && cp requirements-dev.txt .venv/installed-dev; }

.PHONY: run
run: ## Start the service
	@./scripts/run_api.sh

.PHONY: test
test: ## Run the test suite
	@./scripts/run_tests.sh

.PHONY: check
check: install ## Lint, types, import floors, secrets, fuzzing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q tests_check $$(./scripts/prometheus.sh) $$(./scripts/tesseract.sh)

.PHONY: audit
audit: ## Look for known weaknesses of the locked dependencies (needs the internet)
	$(BIN)/uv tool run pip-audit --requirement requirements.lock --no-deps --disable-pip

.PHONY: lock
lock: ## Resolve the newest versions into requirements.lock
	$(BIN)/uv pip compile --universal --python-version 3.11 --no-header --no-annotate --extra test --extra dev pyproject.toml -o requirements.lock

.PHONY: demo
demo: ## Ask the example tenants one question each (the service must be running)
	$(BIN)/compliance-copilot demo
