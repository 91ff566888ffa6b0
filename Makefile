# Everything InfraWatch does from a checkout. Each of these sets up by itself what it needs.
#
#   make run      PostgreSQL, the server and an agent, on http://127.0.0.1:8000
#                 make run ARGS="--port 8001 --data-dir elsewhere"
#   make test     the whole suite, on a real PostgreSQL;  make test ARGS="-k label -x"
#   make check    format, lint, types, arrows
#   make bench    how fast it is; bench-peers: next to VictoriaMetrics and others, where installed
#   make setup    the setting up alone
#
# Paths are relative, so the checkout may be called anything.

PYTHON := .venv/bin/python
SETUP := sh .ci/python .ci/setup.py
# Becomes `infrawatch up`, and stops (SIGTERM) should make be killed.
UNDER_MAKE := $(PYTHON) -I -S src/infrawatch/embedded/launcher.py $$PPID 15 -

.PHONY: run setup test check bench bench-peers
.DEFAULT_GOAL := run

run:
	@$(SETUP) run
	@exec $(UNDER_MAKE) $(PYTHON) -m infrawatch up $(ARGS)

setup:
	@$(SETUP) run

test:
	@$(SETUP) dev
	$(PYTHON) -m pytest $(ARGS)

check:
	@$(SETUP) dev
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .
	$(PYTHON) -m mypy
	$(PYTHON) -c "from importlinter.cli import lint_imports_command; lint_imports_command()"

bench:
	@$(SETUP) run
	$(PYTHON) -m benchmarks.bench_ingest $(ARGS)

bench-peers:
	@$(SETUP) run
	$(PYTHON) -m benchmarks.bench_peers $(ARGS)
