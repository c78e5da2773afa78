# Two stages: packages are installed (with hashes) in the first, only the result and our code go into the second.
# script/image_size does the same without an engine, and says what it weighs.
FROM python:3.11-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PATH=/venv/bin:$PATH
COPY requirements/base.txt routerplatform/deploy/slim.py /tmp/
RUN python -m venv --without-pip /venv \
    && pip --python /venv/bin/python install --no-compile --require-hashes -r /tmp/base.txt \
    && python /tmp/slim.py /venv
WORKDIR /app
COPY manage.py ./
COPY providers providers
COPY routing routing
COPY analytics analytics
COPY routerplatform routerplatform
COPY templates templates
COPY static static
# Byte code of what a start imports, and of nothing else: without any, each start would compile for seconds. Settings
# want secrets; these are thrown away with this stage.
RUN FIELD_KEYS=$(python -c "from cryptography.fernet import Fernet as F; print(F.generate_key().decode())") \
    && export FIELD_KEYS SECRET_KEY="$FIELD_KEYS" KEY_PEPPER="$FIELD_KEYS" DATA_DIR=/tmp/data \
    && python manage.py serve --help \
    && python manage.py rungrpc --help \
    && celery -A routerplatform worker --help

FROM python:3.11-slim-bookworm
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 DATA_DIR=/data
RUN useradd --system --uid 10001 --user-group --home-dir /nonexistent --shell /usr/sbin/nologin router \
    && install --directory --owner=router --group=router --mode=0700 /data
COPY --from=build /venv /venv
COPY --from=build /app /app
WORKDIR /app
USER 10001
VOLUME /data
EXPOSE 8000 50051
# SIGTERM: finish what is open, for up to STOP_ANNOUNCE_S and STOP_DRAIN_S. Give it that long (docs/deployment.md).
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f'http://127.0.0.1:{os.environ.get(\"PORT\", \"8000\")}/health/ready', timeout=2)"]
CMD ["sh", "-c", "exec python manage.py serve --host 0.0.0.0 --port ${PORT:-8000}"]
