# Everything a developer runs. Each target does its own set-up in .venv.
#
#   make demo    a call, end to end, with no account: about a minute
#   make test    all tests that this machine can run
#   make check   format, lint, types, import rules
#   make bench   CPU, latency and memory against a bare relay: about four minutes, on a quiet machine
#   make docs    rewrite docs/messages.md from the code

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: setup demo test check fix bench docs clean

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version.split()[0] + "; try: make PYTHON=python3.12 " )'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (a minute, once)"
	@$(BIN)/python -m pip install -q --disable-pip-version-check -U 'pip>=25.1'
	@$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[all]' --group test --group lint
	@touch $@

demo: setup
	@$(BIN)/switchboard demo

test: setup
	$(BIN)/python -m pytest $(PYTEST_ARGS)

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fix: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: setup
	$(BIN)/python -m benchmarks.run $(BENCH_ARGS)

docs: setup
	$(BIN)/python -m cli.messages_page > docs/messages.md

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .switchboard
