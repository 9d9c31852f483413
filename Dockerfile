# The image of Sheaf: the binary, ONNX Runtime, the authorities to trust, and the bundled demonstration model. It runs as
# a user without rights. Needs no argument; docker compose builds it as docker-compose.yml says.

# ONNX Runtime, pinned by hash in the script.
FROM node:20-bookworm-slim AS onnxruntime
WORKDIR /fetch
COPY scripts/fetch-onnxruntime scripts/
RUN SHEAF_CACHE=/tmp/cache scripts/fetch-onnxruntime /lib-onnxruntime

FROM golang:1.26-bookworm AS build
WORKDIR /src
# A mirror of Go modules, if the network has one; empty is Go's own default.
ARG GOPROXY=
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY . .
ARG VERSION=dev
ARG COMMIT=
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/go/build-cache \
    CGO_ENABLED=1 GOCACHE=/go/build-cache go build -trimpath -buildvcs=false \
      -ldflags "-s -w -X main.version=${VERSION} -X main.commit=${COMMIT}" -o /out/sheaf ./cmd/sheaf \
 && mkdir /out/data

FROM debian:bookworm-slim
LABEL org.opencontainers.image.title="Sheaf" \
      org.opencontainers.image.description="Asynchronous predictions: NATS JetStream, micro-batches, ONNX Runtime, Redis" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=onnxruntime /lib-onnxruntime/ /usr/local/lib/sheaf/
COPY --from=build /out/sheaf /usr/local/bin/sheaf
COPY --from=build --chown=65532:65532 /out/data /data
COPY LICENSE /usr/share/doc/sheaf/
ENV SHEAF_ADDR=0.0.0.0:8080 \
    SHEAF_OPS_ADDR=0.0.0.0:9090 \
    SHEAF_ONNXRUNTIME_LIB=/usr/local/lib/sheaf/libonnxruntime.so.1.27.0 \
    SHEAF_LOG_FORMAT=json
USER 65532:65532
WORKDIR /data
EXPOSE 8080 9090
# For the API. A worker's health is at its operations port: docker-compose.yml says so there.
HEALTHCHECK --interval=5s --timeout=4s --start-period=20s --retries=6 \
  CMD ["sheaf", "health", "--url", "http://127.0.0.1:8080/readyz"]
ENTRYPOINT ["sheaf"]
CMD ["serve"]
