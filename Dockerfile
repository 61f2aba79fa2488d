# syntax=docker/dockerfile:1

# One binary, linked against glibc, on distroless/cc: it brings what the binary needs (libc, libgcc, CA certificates, a
# non-root user) and nothing else, no shell. Not musl: aws-lc and jemalloc are C and would need a second C
# toolchain, for an image only some megabytes smaller. Both stages are Debian 12, so the glibc is the same.
FROM rust:1.95.0-bookworm AS build
WORKDIR /src
COPY . .
# The caches outlive the build, the layer does not hold them: the binary is copied out in the same step.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --package gatehouse --bin gatehouse \
    && install -D target/release/gatehouse /out/gatehouse

FROM gcr.io/distroless/cc-debian12
COPY --from=build /out/gatehouse /gatehouse
# A number, so that the kubelet can see that it is not root.
USER 65532:65532
ENTRYPOINT ["/gatehouse"]
CMD ["operator"]
