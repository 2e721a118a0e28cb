# The activation service in front of Triton: no torch.
# Build from the repository's root: docker build -f deploy/docker/activation-front.Dockerfile -t saexplain/activation-front:0.1.0 .
# The base is pinned to a release; its digest cannot be looked up without a registry, so whoever
# mirrors it adds the digest there. Probes are Kubernetes', so there is no HEALTHCHECK.
FROM python:3.11.14-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_CONSTRAINT=/src/constraints.txt
WORKDIR /src
RUN python -m venv /opt/saexplain
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY services services
COPY protos/saexplain protos/saexplain
COPY clients/python/src clients/python/src
RUN /opt/saexplain/bin/pip install '.[activation-front]'

FROM python:3.11.14-slim-bookworm
COPY --from=build /opt/saexplain /opt/saexplain
ENV PATH=/opt/saexplain/bin:$PATH HOME=/tmp USER=saexplain PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 65532:65532
EXPOSE 7201
CMD ["python", "-m", "services.activation"]
