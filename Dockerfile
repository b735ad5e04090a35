# Thalweg on the CPU, built with BuildKit (Docker 23 or newer) or buildah:
#
#   docker build -t thalweg .
#   docker run --rm -p 8080:8080 -v "$PWD/my-models:/home/mind/model:ro" thalweg
#
# No model is inside: whoever serves brings their own, and a bundled one would be loaded beside them for nothing.
# For a first try `--target demo` adds the two bundled models.
#
# Behind mirrors the images are build arguments, and the files that tell cargo and pip of theirs are secrets, which no
# layer keeps; a proxy comes in by Docker's own arguments (HTTPS_PROXY, NO_PROXY):
#   --secret id=cargo-config,src=$HOME/.cargo/config.toml --secret id=pip-config,src=$HOME/.config/pip/pip.conf

# Rust of Cargo.toml's `rust-version` or newer, with a glibc no newer than that of BASE_IMAGE.
ARG RUST_IMAGE=rust:1.95-slim-bookworm
# Python 3 with pip 22.2 or newer, and certificates. It only says where wheels lie.
ARG PYTHON_IMAGE=python:3.13-slim-bookworm
# glibc 2.28 or newer, libstdc++ and useradd. Nothing is installed into it.
ARG BASE_IMAGE=debian:bookworm-slim

FROM ${RUST_IMAGE} AS chef
RUN --mount=type=secret,id=cargo-config,target=/usr/local/cargo/config.toml \
    cargo install --locked --version 0.1.78 cargo-chef
WORKDIR /source

FROM chef AS plan
COPY . .
RUN cargo chef prepare

# The dependencies are a layer of their own, which lasts until Cargo.toml or Cargo.lock changes.
FROM chef AS build
COPY --from=plan /source/recipe.json .
RUN --mount=type=secret,id=cargo-config,target=/usr/local/cargo/config.toml \
    cargo chef cook --profile shipped --locked
COPY . .
RUN --mount=type=secret,id=cargo-config,target=/usr/local/cargo/config.toml \
    cargo build --profile shipped --locked

# ONNX Runtime and the bundled models, as models/fetch.lock pins them.
FROM ${PYTHON_IMAGE} AS fetch
COPY --from=build /source/target/shipped/thalweg /usr/local/bin/
WORKDIR /fetched
COPY models models
RUN --mount=type=secret,id=pip-config,target=/etc/pip.conf \
    thalweg models fetch

FROM ${BASE_IMAGE} AS base
# The user and the group that ModelArts runs containers as; an image of Ubuntu has given 1000 to another, and 100 is
# a group of Debian's.
RUN if id 1000; then userdel --remove "$(id -nu 1000)"; fi \
    && groupmod --new-name ma-group users \
    && useradd --uid 1000 --gid 100 --create-home ma-user \
    && mkdir -p /home/mind/model
WORKDIR /opt/thalweg
COPY LICENSE ./
COPY --from=fetch /fetched/runtime runtime
COPY --from=build /source/target/shipped/thalweg /usr/local/bin/
ENV THALWEG_LISTEN=0.0.0.0:8080 \
    THALWEG_MODEL_REPOSITORY=/home/mind/model \
    THALWEG_ONNXRUNTIME=/opt/thalweg/runtime/libonnxruntime.so.1.32.0
EXPOSE 8080
STOPSIGNAL SIGTERM
USER 1000:100
# It asks where THALWEG_LISTEN says, so set that and not --listen. Models may take their time to load.
HEALTHCHECK --interval=10s --timeout=6s --start-period=5m --retries=3 CMD ["thalweg", "health"]
ENTRYPOINT ["thalweg"]
CMD ["serve"]
ARG REVISION=unknown
LABEL org.opencontainers.image.title="thalweg" \
      org.opencontainers.image.description="WebSockets in, batches to ONNX Runtime, answers out" \
      org.opencontainers.image.licenses="Apache-2.0 AND MIT" \
      org.opencontainers.image.revision="${REVISION}"

FROM base AS demo
COPY --from=fetch /fetched/models /home/mind/model

# The last stage is what is built where none is named.
FROM base AS thalweg
