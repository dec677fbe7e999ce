# Two images from one file: `service` (analyzer, coordinator; no torch) and `model` (generator, trainer).
#   docker build --target service --tag ouroscope-service:local .
FROM python:3.11-slim-bookworm AS base
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1

FROM base AS build
ENV PATH=/opt/ouroscope/bin:$PATH PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /source
RUN python -m venv /opt/ouroscope
COPY . .

FROM build AS build-service
RUN pip install --constraint constraints.txt '.[analyzer,coordinator,s3,security,tracing]'

FROM build AS build-model
RUN pip install --constraint constraints.txt '.[generator,trainer,s3,security,tracing]'

FROM base AS runtime
# Folders that volumes are mounted over take their owner from here.
RUN useradd --uid 10001 --no-create-home ouroscope \
  && install --directory --owner ouroscope --group ouroscope /data /data/store /data/home
ENV PATH=/opt/ouroscope/bin:$PATH HOME=/tmp
WORKDIR /data
USER 10001

FROM runtime AS service
COPY --from=build-service /opt/ouroscope /opt/ouroscope

FROM runtime AS model
COPY --from=build-model /opt/ouroscope /opt/ouroscope
