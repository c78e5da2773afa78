# Two stages: packages are installed (with hashes) in the first, only the result and our code go into the second.
FROM python:3.11-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY requirements/base.txt /tmp/base.txt
RUN python -m venv /venv \
    && /venv/bin/pip install --require-hashes -r /tmp/base.txt \
    && rm -rf /venv/lib/python3.11/site-packages/pip /venv/bin/pip*

FROM python:3.11-slim-bookworm
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 DATA_DIR=/data
RUN useradd --system --uid 10001 --user-group --home-dir /nonexistent --shell /usr/sbin/nologin router \
    && install --directory --owner=router --group=router --mode=0700 /data
COPY --from=build /venv /venv
WORKDIR /app
COPY manage.py ./
COPY providers providers
COPY routing routing
COPY analytics analytics
COPY routerplatform routerplatform
COPY templates templates
COPY static static
USER 10001
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f'http://127.0.0.1:{os.environ.get(\"PORT\", \"8000\")}/health/ready', timeout=2)"]
CMD ["sh", "-c", "exec uvicorn routerplatform.asgi:application --host 0.0.0.0 --port ${PORT:-8000} --ws websockets-sansio --lifespan on --no-access-log --timeout-graceful-shutdown 30"]
