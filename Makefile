# Every target with a comment behind it is listed by `make help`.
.DEFAULT_GOAL := help
.PHONY: help install lint format types test test-all check wheel ci clean

help: ## list these targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  \1\t\2/' | expand -t 14

install: ## install with everything that developing needs
	pip install -e ".[dev]"

lint: ## what pre-commit runs: ruff, formatting, types
	ruff check .
	ruff format --check .
	mypy

format: ## put the formatting right
	ruff check --fix .
	ruff format .

test: ## the tests that take seconds
	pytest -n 2

test-all: ## all tests, minutes-long ones included
	pytest -n 2 -m "not gpu"

check: lint test ## lint and test

wheel: ## build dist/*.whl
	python -m pip wheel --no-deps --wheel-dir dist .

ci: ## what CI does: a fresh environment, the README's commands, the quickstart
	.ci/run

clean: ## remove caches and builds; runs/ and data/ stay
	rm -rf dist build .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
