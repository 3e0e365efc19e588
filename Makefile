# Every target needs python3 (3.11+), make and git; nothing has to be installed beforehand.
# The first one builds .venv from requirements.lock, later ones reuse it. Inside an active environment
# that has kdlib, e.g. one made from environment.yml, that environment is used.

PROFILE ?= quick
JOBS ?= 2
# Kept, whatever the environment says: compiling torch and timm anew takes every process several seconds.
unexport PYTHONDONTWRITEBYTECODE
ACTIVE := $(shell python -c 'import importlib.metadata as m; m.version("kdlib")' 2>/dev/null && echo yes)
ifeq ($(ACTIVE),yes)
PYTHON := python
ENVIRONMENT :=
else
PYTHON := .venv/bin/python
ENVIRONMENT := .venv/installed
endif

study: $(ENVIRONMENT)    ## train, run the notebooks, write the report (PROFILE=quick)
	$(PYTHON) -m kdlib study --profile $(PROFILE) --jobs $(JOBS)

report: $(ENVIRONMENT)   ## write the report again, from notebooks that have been run
	$(PYTHON) -m kdlib report --profile $(PROFILE)

notebooks: $(ENVIRONMENT) ## notebooks/, figures/ and README anew from the published records
	$(PYTHON) -m kdlib study --from-results results/cifar10-cpu
	$(PYTHON) docs/pages.py results/cifar10-cpu

lab: $(ENVIRONMENT)      ## open the notebooks
	$(PYTHON) -m jupyterlab notebooks

test: $(ENVIRONMENT)     ## all tests
	$(PYTHON) -m pytest --numprocesses $(JOBS) --dist loadgroup

lint: $(ENVIRONMENT)     ## style, without changing anything
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

lock: .venv/bin/uv       ## choose exact versions anew from pyproject.toml
	.venv/bin/uv pip compile pyproject.toml --extra test --universal --python-version 3.11 \
		--no-annotate --upgrade --custom-compile-command "make lock" --quiet --output-file requirements.lock

clean:                   ## the environment and all caches; outputs/ and data/ stay
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

help:
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 10

.venv/installed: requirements.lock pyproject.toml | .venv/bin/uv
	.venv/bin/uv pip install --python .venv/bin/python --requirements requirements.lock
	.venv/bin/uv pip install --python .venv/bin/python --no-deps --editable .
	touch $@

.venv/bin/uv:
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "python3 is older than 3.11: install Python 3.11 or newer" >&2; exit 1; }
	@python3 -m venv .venv || \
		{ echo "python3 has no venv: on Debian or Ubuntu, apt install python3-venv" >&2; exit 1; }
	.venv/bin/python -m pip install --quiet uv

.PHONY: study report notebooks lab test lint lock clean help
