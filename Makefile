# plantwatch: the words a newcomer would guess. `make` alone lists them.
.DEFAULT_GOAL := help
.PHONY: help demo demo-reset up down logs status discover tool smoke test faults check format lock env docs clean

PY   := .venv/bin/python
STACK := python3 deploy/stack
DEMO ?= .plantwatch/demo
WORKERS ?= 1

help: ## List the words
	@grep -hE '^[a-z-]+:.*?## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: env ## Watch a simulated plant: trains, scores, alerts, dashboard (Ctrl-C stops, again goes on)
	@$(PY) -m pipelines demo --data-dir $(DEMO) $(ARGS)

demo-reset: env ## Forget what the demo stored
	@$(PY) -m pipelines demo --reset --data-dir $(DEMO)

up: ## Start the whole stack in containers: Kafka, InfluxDB, services, dashboard; waits until it works (WORKERS=2)
	@$(STACK) up --workers $(WORKERS) $(ARGS)

down: ## Stop the stack (ARGS=--volumes: and forget all that it stored)
	@$(STACK) down $(ARGS)

logs: ## Follow what the stack says (ARGS="score-cpu alert": of these)
	@$(STACK) logs $(ARGS)

status: ## How each container of the stack is, and why one does not work
	@$(STACK) status

discover: ## Write plant/plant.toml of what is sent to the stack and not described yet
	@$(STACK) discover $(ARGS)

tool: ## Run one command against the stack, with an operator's rights: make -s tool CMD="dead-letters list"
	@$(STACK) tool $(CMD)

smoke: ## Check the running stack end to end, a worker killed meanwhile: readings, scores, historian, page, alert
	@$(STACK) smoke $(ARGS)

test: env ## Run every test that can run here
	@scripts/run_tests

faults: env ## Kill, freeze, fill and starve the real services, and count what is missing (ARGS="--rows 1,2")
	@$(PY) -m tests.faults $(ARGS)

check: env ## Format, lint, types, layers, links, fast tests: before every commit
	@$(PY) -m ruff format --check .
	@$(PY) -m ruff check .
	@$(PY) -m mypy
	@.venv/bin/lint-imports
	@$(PY) scripts/check_links.py
	@$(PY) -m pytest -q -n 2 -m "not slow and not browser and not integration"

format: env ## Put the code in order
	@$(PY) -m ruff format . && $(PY) -m ruff check --fix .

lock: env ## Resolve the dependencies anew into requirements/
	@scripts/lock

env: .venv/.ready ## Make the environment from the lock

.venv/.ready: requirements/dev.lock pyproject.toml scripts/bootstrap
	@scripts/bootstrap

clean: ## Remove the environment and caches (not the data)
	@rm -rf .venv .uv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
