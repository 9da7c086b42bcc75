# syntax=docker/dockerfile:1
# The production image: API, collector and migrations; no sandbox, no embedded database, no compiler.
FROM python:3.13.14-slim-trixie AS build

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build

# Wheels only: what the lock's hashes name is what runs, and nothing is compiled here.
COPY requirements/production.txt requirements/dev.txt requirements/
RUN python -m venv --without-pip /opt/tollwatch \
 && python -m pip --python /opt/tollwatch/bin/python install --require-hashes --only-binary :all: -r requirements/production.txt \
 && sed -n '/^setuptools==/,/[^\\]$/p' requirements/dev.txt >requirements/build.txt \
 && python -m pip install --require-hashes --only-binary :all: -r requirements/build.txt

COPY pyproject.toml README.md ./
COPY api/ api/
COPY cli/ cli/
COPY collector/ collector/
COPY migrations/ migrations/
COPY sql/ sql/
COPY store/ store/
# Two steps: `pip --python` runs inside the other environment, which has no setuptools, and needs none.
RUN python -m pip wheel --quiet --no-deps --no-build-isolation --no-index --wheel-dir /wheels . \
 && python -m pip --python /opt/tollwatch/bin/python install --no-deps --no-index /wheels/*.whl \
 && /opt/tollwatch/bin/python -m compileall -q /opt/tollwatch/lib \
 && /opt/tollwatch/bin/tollwatch version


FROM python:3.13.14-slim-trixie

LABEL org.opencontainers.image.title="Tollwatch" \
      org.opencontainers.image.description="Flight recorder for autonomous agents that pay for APIs with x402 on Solana"

# A number, so that an orchestrator can see that it is not root.
RUN groupadd --gid 10402 tollwatch \
 && useradd --uid 10402 --gid 10402 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin tollwatch
# A new volume takes over its owner and its mode.
RUN install --directory --owner=10402 --group=10402 --mode=0700 /var/lib/tollwatch /var/lib/tollwatch/spool
COPY --from=build /opt/tollwatch /opt/tollwatch

ENV PATH=/opt/tollwatch/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    TOLLWATCH_HOST=0.0.0.0 \
    TOLLWATCH_COLLECTOR_HOST=0.0.0.0 \
    TOLLWATCH_LOG_FORMAT=json
USER 10402:10402
EXPOSE 8402 8403
STOPSIGNAL SIGTERM
# The API's; the collector has its own on 8403 (docker-compose.yml).
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8402/healthz', timeout=4)"]
ENTRYPOINT ["tollwatch"]
CMD ["api"]
