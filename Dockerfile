# syntax=docker/dockerfile:1
# Every command of InfraWatch; without arguments the server, on a PostgreSQL that runs elsewhere.
#
#     docker build --tag infrawatch .

# The dashboard, and what /docs and /redoc load, from the packages that package-lock.json pins.
FROM node:24-slim AS pages
WORKDIR /app/dashboard
COPY dashboard/package.json dashboard/package-lock.json dashboard/.npmrc ./
RUN npm ci
COPY dashboard ./
RUN npm run build
RUN mkdir /docs \
    && cd node_modules \
    && cp swagger-ui-dist/swagger-ui-bundle.js \
          swagger-ui-dist/swagger-ui.css \
          swagger-ui-dist/favicon-32x32.png \
          redoc/bundles/redoc.standalone.js \
          /docs/

FROM python:3.13-slim AS builder
# Behind a mirror of PyPI: --build-arg PIP_INDEX_URL=… --build-arg POETRY_PYPI_MIRROR_URL=…
ARG PIP_INDEX_URL POETRY_PYPI_MIRROR_URL
RUN pip install --no-cache-dir poetry==2.5.1 poetry-plugin-pypi-mirror==0.6.5
WORKDIR /app
ENV POETRY_VIRTUALENVS_IN_PROJECT=true
# What is installed changes less often than the code, and then alone makes this layer again.
COPY pyproject.toml poetry.lock ./
RUN poetry install --only main --extras tracing --no-root --no-interaction --compile
COPY README.md LICENSE alembic.ini ./
COPY alembic alembic
COPY src src
COPY --from=pages /docs src/infrawatch/web/dist/docs
COPY --from=pages /app/src/infrawatch/web/dist/page src/infrawatch/web/dist/page
RUN poetry build --format wheel \
    && pip --python .venv/bin/python install --no-cache-dir --no-deps dist/*.whl

FROM python:3.13-slim
# A number, so that Kubernetes can see that it is not root. What is written belongs to it, also where
# a volume is laid over it; the root file system may be read-only, with a tmpfs for /tmp.
RUN useradd --uid 10001 --create-home --home-dir /var/lib/infrawatch infrawatch \
    && install --directory --owner=10001 /var/lib/infrawatch/spool /var/lib/infrawatch/keys
COPY --from=builder /app/.venv /app/.venv
ENV PATH=/app/.venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    INFRAWATCH_HOST=0.0.0.0 \
    INFRAWATCH_LOG_FORMAT=json \
    INFRAWATCH_SPOOL_DIR=/var/lib/infrawatch/spool
WORKDIR /var/lib/infrawatch
USER 10001
EXPOSE 8000
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s CMD ["infrawatch", "healthcheck"]
ENTRYPOINT ["infrawatch"]
CMD ["serve"]
