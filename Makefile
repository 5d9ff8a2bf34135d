# Everything runs from .venv, which `make setup` makes; demo, check, test and dist call it themselves.
# Its packages are compiled there once: torch alone takes 7 s of CPU a process where they are not.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.setup-done
DEMO_OUTPUT ?= outputs/demo
TEST_WORKERS ?= 3
export OMP_NUM_THREADS ?= 1
# Where it is set, every process of every run would compile the sources that it imports again.
unexport PYTHONDONTWRITEBYTECODE

# The S3 servers that tests start; PAPERGRID_TEST_S3 names another environment that has them.
S3_STAMP := $(if $(PAPERGRID_TEST_S3),,.venv-s3/.setup-done)

# Libraries that define metrics, to compare with; PAPERGRID_TEST_ORACLES names another environment.
ORACLES_STAMP := $(if $(PAPERGRID_TEST_ORACLES),,.venv-oracles/.setup-done)

.PHONY: setup demo check test lint options dist requirements services clean

setup: $(STAMP)

$(STAMP): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "papergrid needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 setup")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -r requirements.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

# An environment of its own: its pins are not those of papergrid.
.venv-s3/.setup-done: requirements-s3.txt | $(STAMP)
	$(BIN)/python -m venv --without-pip .venv-s3
	$(BIN)/uv pip install --quiet --compile-bytecode --python .venv-s3/bin/python -r requirements-s3.txt
	@touch $@

# Their pins are not those of papergrid either.
.venv-oracles/.setup-done: requirements-oracles.txt | $(STAMP)
	$(BIN)/python -m venv --without-pip .venv-oracles
	$(BIN)/uv pip install --quiet --compile-bytecode --python .venv-oracles/bin/python -r requirements-oracles.txt
	@touch $@

demo: setup
	$(BIN)/replicate --study demo --output-dir $(DEMO_OUTPUT)
	@echo
	@echo "To try next:"
	@echo "  $(BIN)/replicate status $(DEMO_OUTPUT)"
	@echo "  $(BIN)/replicate --study demo --backbones efficientnet_lite1 --set epochs=6 --output-dir outputs/longer"
	@echo "  $(BIN)/replicate plan --datasets pascal5i --backbones resnet50"
	@echo "  cd examples/bash && ../../$(BIN)/replicate --study study.yaml"

# Each experiment's options.yaml, from the dataclass in its options.py; a test holds that they agree.
options: setup
	$(BIN)/python -m experiments.runtime.write_options
	cd examples && ../$(BIN)/python -m experiments.runtime.write_options ./blobs

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint
	$(BIN)/pytest tests/unit -n $(TEST_WORKERS)

# Most of a system test is waiting for processes to start: more workers than cores shorten it.
test: check $(S3_STAMP) $(ORACLES_STAMP)
	$(BIN)/pytest tests/system tests/data -n $(TEST_WORKERS) --dist loadfile --no-loadscope-reorder --durations=30

# A wheel and an sdist in dist/. The build backend is the pinned one of .venv.
dist: setup
	$(BIN)/python -m build --no-isolation

# What the suites of SLURM, NFS, ssh and the browser need; they skip without it. Debian, as root.
services:
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
	  slurmctld slurmd slurm-client munge \
	  rpcbind nfs-common nfs-kernel-server user-mode-linux kmod iproute2 gcc g++ libc6-dev \
	  openssh-server openssh-client \
	  chromium chromium-driver fonts-dejavu-core

# The one place where versions are chosen.
requirements: COMPILE := $(BIN)/uv pip compile --quiet --no-header --no-emit-index-url --python-version 3.11
requirements:
	$(COMPILE) --all-extras pyproject.toml -o requirements.txt
	$(COMPILE) --group pyproject.toml:s3-servers -o requirements-s3.txt
	$(COMPILE) --group pyproject.toml:oracles -o requirements-oracles.txt

clean:
	rm -rf build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
