# Everything InfraWatch does from a checkout. Each of these sets up by itself what it needs.
#
#   make run      PostgreSQL, the server and an agent, on http://127.0.0.1:8000
#                 make run ARGS="--port 8001 --data-dir elsewhere"
#   make test     the whole suite, on a real PostgreSQL;  make test ARGS="-k label -x"
#   make check    format, lint, types, arrows, and whether a dependency has a known weakness
#   make bench    how fast it is; bench-store: the store alone; bench-growth: whether that stays so;
#                 bench-reading: answers while samples pour in; bench-peers: next to others, where installed
#   make rehearse-image   the Dockerfile's steps without Docker, and what they make (Linux, root)
#   make abuse    what takes long of the hostile tests, with figures
#   make chaos    everything is killed, cut off, stopped and filled up, and nothing is lost
#   make chaos-live   a storm around live views: every viewer ends up with what was committed;
#                 make chaos-live ARGS="--seconds 60 --seed 7 --compact-every 5"
#   make bench-live   from commit to viewer, and the frames a core sends
#   make overload three times what the server can take;  make soak   half an hour at 70 % of it
#   make release-check    wheel and sdist, and `infrawatch up` from the wheel alone
#   make screenshots   docs/images anew, in a real browser
#   make setup    the setting up alone
#
# Paths are relative, so the checkout may be called anything.

# What is compiled once is not compiled again: servers start sooner, and tests start many.
unexport PYTHONDONTWRITEBYTECODE

PYTHON := .venv/bin/python
SETUP := sh .ci/python .ci/setup.py
# Becomes `infrawatch up`, and stops (SIGTERM) should make be killed.
UNDER_MAKE := $(PYTHON) -I -S src/infrawatch/embedded/launcher.py $$PPID 15 -

# Tests mostly wait: for deadlines, and for processes that start and stop. A machine that stands
# still for seconds breaks deadlines too, so what fails is tried once more, and named at the end.
JOBS := 4

.PHONY: run setup test check bench bench-peers peers bench-live chaos-live bench-store bench-growth bench-reading chaos rehearse-image abuse overload soak release-check
.DEFAULT_GOAL := run

run:
	@$(SETUP) run
	@exec $(UNDER_MAKE) $(PYTHON) -m infrawatch up $(ARGS)

setup:
	@$(SETUP) run

test:
	@$(SETUP) dev
	$(PYTHON) -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder --reruns 1 $(ARGS)

chaos:
	@$(SETUP) dev
	$(PYTHON) -m pytest tests/chaos $(ARGS)

abuse:
	@$(SETUP) dev
	THOROUGH=1 $(PYTHON) -m pytest -s --timeout 900 tests/abuse tests/unit/test_decoders.py \
		tests/integration/test_injection.py tests/integration/test_openapi.py $(ARGS)

check:
	@$(SETUP) dev
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .
	$(PYTHON) -m mypy
	$(PYTHON) -c "from importlinter.cli import lint_imports_command; lint_imports_command()"
	@$(PYTHON) .ci/audit.py

bench:
	@$(SETUP) run
	$(PYTHON) -m benchmarks.bench_ingest $(ARGS)

overload:
	@$(SETUP) run
	$(PYTHON) -m benchmarks.overload $(ARGS)

soak:
	@$(SETUP) run
	$(PYTHON) -m benchmarks.soak $(ARGS)

bench-store:
	@$(SETUP) run
	$(PYTHON) -m benchmarks.bench_store $(ARGS)

bench-growth:
	@$(SETUP) run
	$(PYTHON) -m benchmarks.bench_growth $(ARGS)

bench-reading:
	@$(SETUP) run
	$(PYTHON) -m benchmarks.bench_reading $(ARGS)

bench-peers:
	@$(SETUP) run
	$(PYTHON) -m benchmarks.bench_peers $(ARGS)

bench-live:
	@$(SETUP) run
	$(PYTHON) -m benchmarks.bench_live $(ARGS)

rehearse-image:
	@$(SETUP) dev
	$(PYTHON) deploy/rehearse_image.py

release-check:
	@$(SETUP) run
	$(PYTHON) .ci/release_check.py

chaos-live:
	@$(SETUP) dev
	PYTHONPATH=tests $(PYTHON) tests/chaos/live_chaos.py $(ARGS)

screenshots:
	@$(SETUP) dev
	$(PYTHON) -m pytest tests/browser/screenshots.py

# What compatibility tests and `bench-peers` need beside us, on Debian. On a machine
# with services running, Debian starts them: stop and disable what you do not want.
peers:
	apt-get update
	apt-get install --yes --no-install-recommends \
		prometheus victoria-metrics influxdb collectd-core libyajl2 nginx-light
