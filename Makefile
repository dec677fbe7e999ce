# The two commands of the README are `make run` and `make test`; both make their own .venv.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check
SPEC ?= experiments/quickstart.yaml
# Tests in parallel: one worker more than cores, since two on two cores keep 1.6 of them busy (many tests wait for
# another process, a clock or a disk); at most four, since each loads torch.
WORKERS ?= $(shell n=$$(nproc 2>/dev/null || echo 2); echo $$(( n > 3 ? 4 : n + 1 )))

.DEFAULT_GOAL := help
.PHONY: help install run test suite proofs broken kills images-test check proto serve client bench lint types contracts docs clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Ouroscope needs Python 3.11 or newer; say PYTHON=python3.12 make ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(BIN)/python pyproject.toml constraints.txt
	$(PIP) install --quiet --constraint constraints.txt --editable '.[all]'
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) install --quiet --constraint constraints.txt --editable '.[all,dev]'
	@touch $@

install: $(VENV)/.installed ## Make .venv and install every service into it

run: $(VENV)/.installed ## Carry one real experiment from text to verdict (a few minutes, no network, no GPU)
	$(BIN)/ouroscope run $(SPEC)

serve: $(VENV)/.installed ## Start the four services on this machine and keep them running
	$(BIN)/ouroscope serve all

# Types are looked at beside the tests: alone they would leave all processors but one without work.
test: $(VENV)/.installed-dev lint ## Check the code and run the tests, all but the long proofs
	+@$(MAKE) --no-print-directory --jobs 3 types contracts suite

suite: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

# Side by side: both wait much.
proofs: $(VENV)/.installed-dev ## Break things on purpose: kills, clocks that jump, certificates that expire (minutes)
	+@$(MAKE) --no-print-directory --jobs 2 kills broken

broken: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m proof -n 2 --dist loadfile --no-loadscope-reorder

kills: $(VENV)/.installed-dev ## Kill services at random moments of ten small runs and compare what they leave (minutes)
	folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && $(BIN)/python -m benchmarks.kills --cases 10 --result "$$folder/kills.json"

images-test: $(VENV)/.installed-dev ## Build both images in a root folder and start what is in them (root, debootstrap; minutes)
	$(BIN)/python -m pytest -m images tests/images

check: lint types contracts ## Format, lint, types, import contracts

lint: $(VENV)/.installed-dev
	$(BIN)/ruff format --check --quiet . && $(BIN)/ruff check --quiet .

types: $(VENV)/.installed-dev
	$(BIN)/mypy

contracts: $(VENV)/.installed-dev
	$(BIN)/lint-imports

proto: $(VENV)/.installed-dev ## Write ouroscope/v1 from proto/ (the only writer of generated code)
	$(BIN)/python proto/generate.py

docs: $(VENV)/.installed-dev ## Write the generated pages of docs/
	$(BIN)/python docs/generate.py

client: $(VENV)/.installed-dev ## Build the wheel of the clients alone into dist/
	$(BIN)/python -m build --wheel --no-isolation --outdir dist client

bench: $(VENV)/.installed-dev ## Measure speed against named peers (minutes)
	@# analysis, graphs, coverage, human_controls and score_libraries need corpora of your own: see benchmarks/README.md
	for name in generation training loop; do $(BIN)/python -m benchmarks.$$name || exit 1; done

clean: ## Remove what make made, but no data
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache
