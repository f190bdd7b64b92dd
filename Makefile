# Every target sets up what it needs. A fresh machine needs only Python 3.11 or newer, and make.

PYTHON ?= python3
ARGS ?=
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
UV := $(shell command -v uv 2>/dev/null)
TYPED := penstock benchmarks

# A test or a demo must never use a developer's own Prefect server.
unexport $(filter PREFECT_%,$(.VARIABLES))

.DEFAULT_GOAL := help
.PHONY: help demo test test-all soak clients faults hour wheel check docs lock bench bench-peers bench-full bench-check gpu-check

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1|\2/p' Makefile | while IFS='|' read -r target text; do printf '%-20s%s\n' "$$target" "$$text"; done

demo: $(STAMP) ## try Penstock on a made-up shop
	$(BIN)/penstock demo $(ARGS)

# Each process runs one file at a time, in the order of their paths, so that the long end-to-end tests come first.
PYTEST = $(BIN)/python -m pytest -n $(PROCESSES) --dist loadfile --no-loadscope-reorder
PROCESSES := 2

test: $(STAMP) ## run the fast tests, in at most 10 minutes (ARGS="-k name" for some)
	$(PYTEST) $(ARGS)

# The sample of soak tests and the random cases change every day.
SEED := $(shell date -u +%Y%m%d)

# Many of its tests wait for servers and workers, and a third process has the cores meanwhile.
test-all: PROCESSES := 3
test-all: $(STAMP) ## run all tests and one in twenty of the soak tests (SEED=20260131 repeats that day's sample)
	$(PYTEST) -m '' --sample 20 --sample-seed $(SEED) --hypothesis-seed $(SEED) $(ARGS)

soak: $(STAMP) ## run all soak tests: the rest of the faults, long histories, an hour of all packs
	$(BIN)/python -m pytest -m soak --ignore tests/e2e/test_hour.py -n 2 --dist worksteal $(ARGS)
	$(MAKE) hour ARGS=

# Clients of the server that are no part of Penstock, each in an environment of its own.
CLIENTS := $(patsubst tests/clients/%.txt,.venv-clients/%/.installed,$(wildcard tests/clients/*.txt))

clients: $(CLIENTS) ## install MLflow's and Triton's client and Schemathesis, with which tests ask the server

faults: $(STAMP) ## break runs in all known ways, and print the outcome of each
	$(BIN)/python -m pytest tests/faults -m '' -n 2 --dist worksteal $(ARGS)

hour: $(STAMP) ## run an hour of all packs' schedules on one server, compressed; no run may be missing
	$(BIN)/python -m pytest tests/e2e/test_hour.py -m '' -n 0 -s $(ARGS)

wheel: $(STAMP) ## build dist/penstock-*.whl, to install it anywhere
	$(BIN)/python -m hatchling build -t wheel

check: $(STAMP) ## lint, format, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(TYPED)
	$(BIN)/lint-imports

docs: $(STAMP) ## write the generated pages and build the site into site/
	$(BIN)/python -m docs.generator
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench: $(STAMP) ## measure speed and memory of one workload, in a few minutes (ARGS="--workload W3" for another)
	$(BIN)/python -m benchmarks $(ARGS)

# Each peer has an environment of its own: beside Penstock's libraries, its own would not be the newest.
PEERS := $(patsubst benchmarks/peers/%.txt,.venv-peers/%/.installed,$(wildcard benchmarks/peers/*.txt))

bench-peers: $(STAMP) $(PEERS) ## install Dask, dlt, PySpark and Ray, and measure W1 and W4 with them
	$(BIN)/python -m benchmarks --workload W1 W4 $(ARGS)

bench-full: $(STAMP) $(PEERS) ## measure all workloads and write benchmarks/RESULTS.md and ratios.json
	$(BIN)/python -m benchmarks --workload all --write $(ARGS)
	$(BIN)/python -m benchmarks --workload all --store
	$(BIN)/python -m benchmarks.small_run --rounds 5 --write --store
	$(BIN)/python -m benchmarks.cold_start --write

bench-check: $(STAMP) ## fail if a ratio is worse than the stored one (ARGS="--workload W1" for one workload)
	$(BIN)/python -m benchmarks --workload all --check $(ARGS)
	$(if $(ARGS),,$(BIN)/python -m benchmarks.small_run --check)
	$(if $(ARGS),,$(BIN)/python -m benchmarks.cold_start --check)

# Make an environment $(1) with the pins of the file $(2).
ifneq ($(UV),)
define pinned_environment
	uv venv --quiet --clear --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')" $(1)
	uv pip install --quiet --compile-bytecode --python $(1)/bin/python --no-deps -r $(2)
endef
else
define pinned_environment
	$(PYTHON) -m venv --clear $(1)
	$(1)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r $(2)
endef
endif

.venv-peers/%/.installed: benchmarks/peers/%.txt
	$(call pinned_environment,.venv-peers/$*,$<)
	@touch $@

.venv-clients/%/.installed: tests/clients/%.txt
	$(call pinned_environment,.venv-clients/$*,$<)
	@touch $@

gpu-check: $(STAMP) ## compare scores on a GPU with the processor's, and show where the GPU pays, in 5 minutes
	$(BIN)/python -m benchmarks.gpu_check $(ARGS)

# Pins that still fit are kept; ARGS=--upgrade changes all of them. Without uv on PATH, uv goes into the environment.
# The locks must work with every index, so they contain no web address.
# The image's lock has the same pins without developer tools and cluster runners, and without nccl (470 MB that only
# several GPUs need).
COMPILE = PATH="$$PATH:$(abspath $(BIN))" uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-annotate --custom-compile-command "make lock" pyproject.toml
# The extras that read sources: the image has them too.
READERS := --extra mysql --extra object-stores --extra delta --extra iceberg --extra documents

lock: $(STAMP) ## resolve the dependencies into requirements.lock (ARGS=--upgrade for newer ones)
	@test -n "$(UV)" || test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet uv
	@cp requirements.lock $(VENV)/requirements.new
	$(COMPILE) $(ARGS) --group dev --extra dask --extra ray --extra sklearn \
		$(READERS) -o $(VENV)/requirements.new
	@rm -f $(VENV)/requirements-runtime.new
	$(COMPILE) -c $(VENV)/requirements.new --no-emit-package nvidia-nccl-cu12 \
		--no-emit-package nvidia-nccl-cu13 $(READERS) -o $(VENV)/requirements-runtime.new
	@if grep -nE 'https?://' $(VENV)/requirements*.new; then echo "A lock names a web address; none was written." >&2; exit 1; fi
	@cp $(VENV)/requirements.new requirements.lock
	@cp $(VENV)/requirements-runtime.new requirements-runtime.lock
	@for file in benchmarks/peers/*.in tests/clients/*.in; do \
		PATH="$$PATH:$(abspath $(BIN))" uv pip compile --quiet --universal --python-version 3.11 --no-emit-index-url \
			--no-annotate --custom-compile-command "make lock" --no-emit-package nvidia-nccl-cu12 \
			$(ARGS) $$file -o $${file%.in}.txt || exit 1; done
	@echo "requirements.lock, requirements-runtime.lock and the pins of peers and clients written; the next target installs them"

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "Penstock needs Python 3.11 or newer; '$(PYTHON)' is: $$($(PYTHON) --version 2>/dev/null || echo missing)." >&2; \
		echo "Use another one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
ifneq ($(UV),)
	@test -x $(BIN)/python || uv venv --quiet --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')" $(VENV)
	uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r requirements.lock
	uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
else
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip >/dev/null
	@# --no-deps: the lock is complete, and pip would look for another sqlalchemy to satisfy prefect's `sqlalchemy[asyncio]`
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
endif
	@touch $@
