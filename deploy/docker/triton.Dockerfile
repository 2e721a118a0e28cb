# Triton with the encoder and its pinned stack. The server is the one that the nvidia-pytriton wheel
# carries, wanted without that wheel's dependencies; torch brings CUDA's libraries.
# Build from the repository's root: docker build -f deploy/docker/triton.Dockerfile -t saexplain/triton:0.1.0 .
# The base is pinned to a release; its digest cannot be looked up without a registry, so whoever
# mirrors it adds the digest there. Probes are Kubernetes', so there is no HEALTHCHECK.
FROM python:3.11.14-slim-bookworm AS build
# The index that has torch for the node's driver; PyPI's build is for a recent one.
ARG TORCH_INDEX=https://pypi.org/simple
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_CONSTRAINT=/src/constraints.txt
WORKDIR /src
RUN python -m venv /opt/saexplain
COPY pyproject.toml constraints.txt README.md LICENSE ./
RUN /opt/saexplain/bin/pip install --extra-index-url "$TORCH_INDEX" torch \
    && /opt/saexplain/bin/pip install --no-deps nvidia-pytriton
COPY services services
COPY protos/saexplain protos/saexplain
COPY clients/python/src clients/python/src
RUN /opt/saexplain/bin/pip install '.[activation-engine]'

FROM python:3.11.14-slim-bookworm
COPY --from=build /opt/saexplain /opt/saexplain
# What NVIDIA's container runtime mounts from the node.
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
ENV PATH=/opt/saexplain/bin:$PATH HOME=/tmp USER=saexplain PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 65532:65532
EXPOSE 8001 8002
CMD ["python", "-m", "services.activation.triton"]
