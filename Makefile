# Targets for users and for CI; each prints what it is about to install or start before it does so.
PYTHON ?= python3
VENV := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help setup demo test check lock clean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):[^#]*## /  make \1|/p' $(MAKEFILE_LIST) | column -t -s '|'

setup: ## everything submissions need: Python environment, Docker Engine, child image, Nix volumes, offline package set
	@$(VENV)/python -m deploy.setup

demo: setup ## set-up, then the examples on an embedded stack
	@$(VENV)/python deploy/demo.py

test: setup ## set-up, then the whole test-suite on real parts
	@$(VENV)/python -m pytest

check: ## lint, format and types
	@$(VENV)/ruff check .
	@$(VENV)/ruff format --check .
	@$(VENV)/mypy
