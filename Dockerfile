# One image is the whole service. Without settings it also runs PostgreSQL and Valkey, from their wheels, with
# data in /data: mount a volume there. With DATABASE_URL and REDIS_URL it runs neither and needs no volume.

FROM python:3.13-slim AS build

ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore
WORKDIR /src

# The slow layers come first: they are rebuilt only when a lock file changes. The image has the extra for signers
# outside the process, since nothing can be installed in it later; it adds 3 MB.
COPY requirements-solana-keychain.txt ./
RUN python -m venv --without-pip /opt/engine \
    && pip --python /opt/engine install --require-hashes --requirement requirements-solana-keychain.txt

# The build backend is pinned by the lock file too.
COPY requirements-dev.txt ./
RUN sed -n '/^setuptools==/,/[^\\]$/p' requirements-dev.txt > build.txt \
    && pip install --require-hashes --requirement build.txt

COPY pyproject.toml setup.cfg README.md LICENSE ./
COPY sql/ sql/
COPY service/ service/
RUN pip wheel --no-deps --no-build-isolation --wheel-dir wheel . \
    && pip --python /opt/engine install --no-deps --no-index wheel/*.whl


FROM python:3.13-slim

# UID 1000 is the first regular user on most systems, so that a host folder can be mounted without a chown. The
# user has a name because PostgreSQL requires one.
RUN useradd --uid 1000 --user-group --no-create-home --home-dir /data --shell /usr/sbin/nologin engine \
    && install --directory --mode=0700 --owner=engine --group=engine /data

COPY --from=build /opt/engine /opt/engine
WORKDIR /opt/engine

ENV PATH=/opt/engine/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    HOST=0.0.0.0 \
    PORT=3000 \
    DATA_DIR=/data

# There is no VOLUME: an anonymous one would hide that data is lost with the container, and some platforms
# refuse to build an image that has it.
USER 1000:1000
EXPOSE 3000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen('http://localhost:' + os.environ['PORT'] + '/health', timeout=4)"]
CMD ["python", "-m", "service", "serve"]
