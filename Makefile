# The tasks of a checkout. Each target installs what it needs.
#
#   make run      PostgreSQL, the server and an agent, on http://127.0.0.1:8000
#                 make run ARGS="--port 8001 --data-dir elsewhere"
#   make test     the whole suite, on a real PostgreSQL;  make test ARGS="-k label -x"
#   make check    formatting, lint, types, import layers, and known vulnerabilities of dependencies
#   make bench    ingest performance; bench-store: the store alone; bench-growth: as data grows;
#                 bench-reading: queries during ingest; bench-peers: beside other databases, if installed
#   make rehearse-image   the Dockerfile's steps without Docker, and a check of the result (Linux, root)
#   make abuse    the slow part of the hostile-input tests, with figures
#   make chaos    kill, disconnect, stop and fill up everything, and check that nothing is lost
#   make chaos-live   faults around live views: every viewer must end up with what was committed;
#                 make chaos-live ARGS="--seconds 60 --seed 7 --compact-every 5"
#   make bench-live   latency from commit to viewer, and the frames that one core sends
#   make overload three times the load the server can take;  make soak   half an hour at 70 % of it
#   make release-check    wheel and sdist, and `infrawatch up` from the wheel alone
#   make screenshots   renew docs/images, in a real browser
#   make setup    install only
#
# Paths are relative, so the checkout directory may have any name.

# Keep compiled bytecode: servers start sooner, and tests start many of them.
unexport PYTHONDONTWRITEBYTECODE

PYTHON := .venv/bin/python
SETUP := sh .ci/python .ci/setup.py
# Execs `infrawatch up`, which gets SIGTERM if make is killed.
UNDER_MAKE := $(PYTHON) -I -S src/infrawatch/embedded/launcher.py $$PPID 15 -

# Tests mostly wait: for deadlines, and for processes that start and stop. A machine that stalls for
# seconds breaks deadlines too, so a failed test runs once more and is listed at the end.
JOBS := 5

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

# Other servers that compatibility tests and `bench-peers` need, from Debian's packages. Debian starts
# them as services where an init system runs: stop and disable those you do not want.
peers:
	apt-get update
	apt-get install --yes --no-install-recommends \
		prometheus victoria-metrics influxdb collectd-core libyajl2 nginx-light
