# Targets for users and for CI. What needs root or installs packages says so before it does it.
#
# REFRESH              ## `make setup REFRESH=1` takes today's packages of Debian
# ROUNDS               ## `make bench-env ROUNDS=9` measures so often; else five times
# EVENTS               ## `make bench-projections EVENTS=100000` measures with so many events; else with a million
# MINUTES              ## `make soak MINUTES=30` kills for so long; else for 3. `make bench MINUTES=10` streams for so long; else for 20 s
# RUNNER               ## `make bench RUNNER='slots=4'` measures with these settings of the runner; else as shipped
# COMPARE              ## `make bench COMPARE='A.json B.json'` measures nothing and prints two runs that were kept, side by side
# UPGRADE              ## `make lock UPGRADE=1` takes the newest of every dependency; else those that are locked stay
# WORKERS              ## `make test WORKERS=1` runs one test after the other; else four files of tests at one time
# PYTHON               ## the Python that .venv is made of, 3.11 or newer; else python3
# CUTOR_DEBIAN_MIRROR  ## the mirror of Debian's archive that set-up takes packages from; else that of the apt sources
# DOCKER_HOST          ## the Docker Engine to use; more in docs/how-to/set-up.md
PYTHON ?= python3
WORKERS ?= 4
VENV := .venv/bin

# Where it is set, each of the thousand commands that tests run compiles the whole package anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help environment setup demo test test-tools compose-base attacks fault soak bench bench-scale bench-server bench-env bench-projections bench-fold bench-live bench-queries check docs man record lock clean purge

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@printf '\n'
	@awk -F '## ' '/^# [A-Z_]+ +## / { sub(/^# /, "", $$1); printf "  %-21s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

environment: ## Python environment .venv with the locked dependencies
	@$(PYTHON) -m deploy.environment

setup: environment ## all that submissions need: engine, child image, Nix volumes, offline package set (REFRESH=1: today's)
	@$(VENV)/python -m cutor setup --yes $(if $(REFRESH),--refresh)

demo: setup ## set-up, then the examples on an embedded stack
	@$(VENV)/python deploy/demo.py

test: setup test-tools ## set-up, then the whole test-suite on real parts; three failures at the most are looked at again
	@$(VENV)/python -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder --durations 25 || \
		$(VENV)/python -m tests.second_look $$?

test-tools: environment ## what tests need of the machine beyond set-up: docker-compose, of Debian, where there is none
	@$(VENV)/python -m deploy.test_tools

compose-base: environment ## an image to build deploy/compose on, of Debian's packages, where no registry of images can be reached
	@$(VENV)/python -m deploy.compose.base

attacks: setup ## set-up, then every attack of tests/attacks on a stack of its own (ONLY='kernel/*': some; REUSE=100)
	@$(VENV)/python -m tests.attacks.runner $(if $(ONLY),'$(ONLY)') $(if $(REUSE),--reuse $(REUSE))

fault: setup ## set-up, then processes killed at every point of tests/fault, on stacks of their own (ONLY='runner.*': some)
	@$(VENV)/python -m tests.fault.runner $(if $(ONLY),'$(ONLY)')

soak: setup ## set-up, then random kills at random times under load (MINUTES=30; 3 without it)
	@$(VENV)/python -m tests.fault.soak $(if $(MINUTES),--minutes $(MINUTES))

bench: $(if $(COMPARE),environment,setup) ## set-up, then how fast cutor is beside bare processes, jails and containers: one table, kept in .bench (MINUTES=10, COMPARE='A B')
	@$(VENV)/python -m tests.bench.performance $(if $(MINUTES),--minutes $(MINUTES)) $(addprefix --runner ,$(RUNNER)) $(if $(COMPARE),--compare $(COMPARE))

bench-scale: setup ## set-up, then what a submission costs with 100 to 100,000 submissions and 1 to 1,000 environments behind it (ONLY='100000x1': some)
	@$(VENV)/python -m tests.bench.scale $(ONLY)

bench-server: environment ## what a server bears: submissions' messages without roles, one server and three, and roles that wait
	@$(VENV)/python -m tests.bench.scale.server

bench-env: setup ## set-up, then what environments cost, and fifty built by two builders at once (ROUNDS=9; 5 without it)
	@$(VENV)/python -m tests.bench.environments $(ROUNDS)
	@$(VENV)/python -m tests.bench.fifty_environments

bench-projections: environment ## what a rebuild of the views from the log costs, by step (EVENTS=100000; a million without it)
	@$(VENV)/python -m tests.bench.rebuild $(EVENTS)

bench-fold: environment ## what a commit costs by the size of its batch, in both ways to fold
	@$(VENV)/python -m tests.bench.fold

bench-live: environment ## how old events are when the views hold them, and what an event costs at 10 to 1,000 a second
	@$(VENV)/python -m tests.bench.live

bench-queries: environment ## what questions and snapshots cost the projector that writes the views (EVENTS=100000; 400,000 without it)
	@$(VENV)/python -m tests.bench.queries $(EVENTS)

check: environment ## lint, format and types
	@$(VENV)/ruff check .
	@$(VENV)/ruff format --check .
	@$(VENV)/mypy

docs: man ## write the pages that are made from code anew, then the site of all pages into .docs/site
	@$(VENV)/python -m cutor.cli.reference
	@$(VENV)/python docs/generate.py
	@$(VENV)/python -m docs.drawing
	@$(VENV)/python -m sphinx -b html -c docs -d .docs/doctrees --fresh-env --jobs auto --fail-on-warning --keep-going --quiet . .docs/site
	@printf 'the site: .docs/site/index.html\n'

man: environment ## the manual page cutor(1), of the page of the command line, into cutor/cli
	@$(VENV)/python -m cutor.cli.reference
	@$(VENV)/python -m sphinx -b man -c docs -d .docs/man-doctrees --jobs auto --fail-on-warning --keep-going --quiet . cutor/cli

record: setup ## run the tutorials and the demonstration, and write what they print into their pages
	@$(VENV)/python -m tests.docs.record

lock: ## write requirements.lock for what pyproject.toml asks for; what was chosen stays (UPGRADE=1: the newest of all)
	@$(PYTHON) -m venv .setup/lock
	@.setup/lock/bin/pip install --quiet pip-tools
	@.setup/lock/bin/pip-compile --quiet --no-config $(if $(UPGRADE),--upgrade) --extra dev --build-deps-for editable --strip-extras \
	  --allow-unsafe --generate-hashes --no-header --no-annotate --no-emit-index-url --no-emit-trusted-host \
	  --no-emit-find-links --output-file requirements.lock pyproject.toml

clean: ## remove the Python environment and the caches of tools
	@rm -rf .venv .setup .docs .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist

purge: environment ## remove what set-up made outside the repository, for all checkouts: images, Nix volumes, downloads
	@$(VENV)/python -m cutor setup --purge --yes
