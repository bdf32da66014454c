# The image of Forestall: one static program and the certificates of public authorities. There is no
# shell in it, and nothing that writes.
#
#     docker buildx build --platform linux/amd64,linux/arm64 --tag HOST/forestall:0.1.0 .
#
# The bases are build arguments, for those who keep copies of their own.
ARG BUILD_IMAGE=docker.io/library/rust:1.95.0-bookworm
ARG RUNTIME_IMAGE=scratch

# Runs on the architecture of the builder, and compiles for the other one with Debian's cross compiler.
FROM --platform=$BUILDPLATFORM ${BUILD_IMAGE} AS build
ARG BUILDARCH
ARG TARGETARCH
# rust-toolchain.toml would bring clippy and rustfmt along; the base has the right compiler.
ENV CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc \
    CC_x86_64_unknown_linux_gnu=x86_64-linux-gnu-gcc \
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
    CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_LINKER=x86_64-linux-gnu-gcc
RUN set -eu; \
    case $TARGETARCH in \
        amd64) target=x86_64-unknown-linux-gnu; packages="gcc-x86-64-linux-gnu libc6-dev-amd64-cross" ;; \
        arm64) target=aarch64-unknown-linux-gnu; packages="gcc-aarch64-linux-gnu libc6-dev-arm64-cross" ;; \
        *) echo "Forestall is built for amd64 and arm64, not for '$TARGETARCH'" >&2; exit 1 ;; \
    esac; \
    echo "$target" >/target; \
    if [ "$BUILDARCH" != "$TARGETARCH" ]; then \
        apt-get update -qq; \
        apt-get install -y -qq --no-install-recommends $packages; \
        rustup target add "$target"; \
    fi
WORKDIR /source
COPY . .
# glibc's own resolver is in the program: since 2.34, it loads no library for files and DNS.
# cargo goes by times, and what was copied may be older than what the cache was made from. Relocations
# are packed, which saves most of a megabyte.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/source/target \
    set -eu; \
    target=$(cat /target); \
    touch src/lib.rs src/main.rs; \
    RUSTFLAGS="-C target-feature=+crt-static" cargo rustc --profile dist --locked --bin forestall --target "$target" -- \
        -C link-arg=-Wl,-z,pack-relative-relocs; \
    cp "target/$target/dist/forestall" /forestall

FROM ${RUNTIME_IMAGE}
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="Forestall" \
    org.opencontainers.image.description="A Kubernetes admission webhook that stops production incidents before they happen" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.version="$VERSION"
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /forestall /forestall
# mimalloc would ask for huge pages, which cost some ten megabytes that are never touched, and keep for
# a second what large reviews gave back, while the next ones take theirs.
ENV MIMALLOC_ALLOW_THP=0
ENV MIMALLOC_PURGE_DELAY=100
USER 65532:65532
EXPOSE 9443 8080
ENTRYPOINT ["/forestall"]
