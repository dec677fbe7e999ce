# Two images from one file: `service` (analyzer, coordinator, command line; no torch), `model` (generator, trainer).
#
#   docker build --target service --tag ouroscope-service:local .
#   docker build --target model --tag ouroscope-model:local .
#
# BASE               another base with Python 3.11 or newer and a shell
# ACCELERATOR        of `model`: cuda, or cpu
# TORCH_INDEX        with cpu: index of the builds of torch for the processor, which the usual one does not have
# SOURCE_DATE_EPOCH  date of every file, in seconds since 1970; with the same one, two builds have the same files
# EXTRAS             more extras, with commas between them: ray-cluster for nodes of Ray and who asks them
# REVISION           what was built, for the label

# The digest is the one of the index of all platforms that Docker's own list of official images had for 3.11.16 of
# 2026-08-25. Move it with the versions in constraints.txt.
ARG BASE=python:3.11-slim-bookworm@sha256:fe556eaffd0d96abd8685b83bb8a69addd0dc730fa193669a7df0d49ddcfac02

FROM ${BASE} AS base
ENV PATH=/opt/ouroscope/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
ARG SOURCE_DATE_EPOCH=315532800
# The standard library comes without its compiled files, and nothing can be written where it is read-only.
RUN library="$(python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')" \
  && python -m compileall -q --invalidation-mode unchecked-hash "$library"

FROM base AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /source
COPY deploy/image/tools.txt deploy/image/
# No version of binutils: it is not in any image, and Debian's stable release has one.
# hadolint ignore=DL3008
RUN apt-get update -qq && apt-get install --yes -qq --no-install-recommends binutils && rm -rf /var/lib/apt/lists/* \
  && python -m venv /opt/tools \
  && /opt/tools/bin/pip install --quiet --only-binary :all: --requirement deploy/image/tools.txt
COPY . .
RUN /opt/tools/bin/hatchling build --target wheel --directory /opt/wheels

FROM build AS build-service
ARG EXTRAS=
RUN deploy/image/install.sh analyzer,coordinator,s3,security,tracing "$EXTRAS" && deploy/image/trim.sh \
  && deploy/image/finish.sh services.analyzer.__main__ services.coordinator.__main__ ouroscope_app.main \
    ouroscope.rpc.probe jwt networkit networkx opentelemetry.exporter.otlp.proto.http.trace_exporter s3fs \
    scipy.cluster.vq spacy.lang.en

FROM build AS build-model
ARG ACCELERATOR=cuda
ARG TORCH_INDEX=
ARG EXTRAS=
RUN deploy/image/install.sh generator,trainer,s3,security,tracing "$EXTRAS" \
  && deploy/image/finish.sh services.generator.__main__ services.trainer.__main__ ouroscope_app.main \
    ouroscope.rpc.probe accelerate jwt opentelemetry.exporter.otlp.proto.http.trace_exporter peft s3fs torch \
    transformers.models.auto.modeling_auto transformers.models.llama.modeling_llama

FROM base AS runtime
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Ouroscope" \
  org.opencontainers.image.description="Watches language models that learn from their own output" \
  org.opencontainers.image.version="0.1.0" \
  org.opencontainers.image.licenses="Apache-2.0" \
  org.opencontainers.image.revision=$REVISION
# Nothing is installed any more. Folders that volumes are mounted over take their owner from here.
RUN rm -rf /usr/local/lib/python3.*/ensurepip /usr/local/lib/python3.*/site-packages/* /usr/local/bin/pip* \
  && useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin ouroscope \
  && install --directory --owner ouroscope --group ouroscope /data /data/store /data/home
ENV HOME=/tmp
WORKDIR /data
USER 10001

FROM runtime AS service
COPY --from=build-service /opt/ouroscope /opt/ouroscope
# A container runs one of the two. With TLS, tell it how by OURO_CLIENT_*, or give it a check of its own.
HEALTHCHECK --interval=15s --timeout=15s --start-period=60s --retries=4 \
  CMD ["python", "-m", "ouroscope.rpc.probe", "127.0.0.1:50053", "127.0.0.1:50054"]
CMD ["ouroscope", "--help"]

FROM runtime AS model
COPY --from=build-model /opt/ouroscope /opt/ouroscope
HEALTHCHECK --interval=15s --timeout=15s --start-period=120s --retries=4 \
  CMD ["python", "-m", "ouroscope.rpc.probe", "127.0.0.1:50051", "127.0.0.1:50052"]
CMD ["ouroscope", "--help"]
