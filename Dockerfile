# Buzzer's images: `--target api`, `--target worker`, and `--target secrets` for docker-compose.yml.
#
#   docker build --target api -t buzzer-api .
#
# Both BuildKit and the older builder take this file.
ARG RUST_IMAGE=rust:1-bookworm
ARG DEBIAN_IMAGE=debian:bookworm-slim
ARG CADDY_IMAGE=caddy:2

# Makes the passwords that docker-compose.yml needs. A new volume takes its owner from the folder that it is mounted on.
FROM ${DEBIAN_IMAGE} AS secrets
COPY docker/secrets docker/rabbitmq.conf /usr/local/lib/buzzer/
# Files keep the modes that they have outside, and not everybody's are readable to all.
RUN chmod -R a+rX /usr/local/lib/buzzer && \
    install -d -o 10001 -g 10001 /secrets/passwords /secrets/api /secrets/worker /secrets/rabbitmq /secrets/postgres
USER 10001:10001
ENTRYPOINT ["/usr/local/lib/buzzer/secrets"]

# The proxy before several APIs.
FROM ${CADDY_IMAGE} AS proxy
COPY docker/Caddyfile /etc/caddy/Caddyfile
RUN chmod a+r /etc/caddy/Caddyfile

# What says which dependencies there are, beside programs that do nothing: so the next stage changes only with those.
FROM ${DEBIAN_IMAGE} AS manifests
WORKDIR /buzzer
COPY . .
RUN find . -type f ! -name Cargo.toml ! -name Cargo.lock ! -path "./.cargo/*" -delete && \
    for package in api worker cli prove shared tests examples/worker; do \
      mkdir -p $package/src && touch $package/src/lib.rs && echo 'fn main() {}' >$package/src/main.rs; \
    done

FROM ${RUST_IMAGE} AS build
WORKDIR /buzzer
COPY --from=manifests /buzzer .
RUN cargo build --release --locked -p buzzer -p buzzer-api -p buzzer-worker
COPY . .
# Files keep the age that they have outside. Cargo would take the programs that do nothing for newer.
RUN find api worker cli prove shared -name '*.rs' -exec touch {} + && \
    cargo build --release --locked -p buzzer -p buzzer-api -p buzzer-worker && \
    strip target/release/buzzer target/release/buzzer-api target/release/buzzer-worker

# Any user will do, as long as it is not root; the numbers need no name.
FROM ${DEBIAN_IMAGE} AS base
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
RUN install -d -o 10001 -g 10001 /var/lib/buzzer
WORKDIR /var/lib/buzzer
USER 10001:10001

FROM base AS worker
ENV BUZZER_LISTEN=127.0.0.1:8081
COPY --from=build /buzzer/target/release/buzzer-worker /usr/local/bin/
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD ["buzzer-worker", "--health"]
ENTRYPOINT ["buzzer-worker"]

# With the command `buzzer` beside it, for keys and for `buzzer doctor`.
FROM base AS api
ENV BUZZER_LISTEN=0.0.0.0:8080
COPY --from=build /buzzer/target/release/buzzer-api /buzzer/target/release/buzzer /usr/local/bin/
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD ["buzzer-api", "--health"]
ENTRYPOINT ["buzzer-api"]
