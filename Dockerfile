# The Plaudit service. CPU:  docker build -t plaudit .
#                      CUDA: docker build -t plaudit --build-arg TARGET=cuda .
#                      Training: docker build -t plaudit-training --build-arg EXTRA=training .
#                      vLLM: docker build -t plaudit-vllm --build-arg TARGET=cuda --build-arg EXTRA=vllm .
# The default index serves torch with CUDA, which works on a CPU too but is gigabytes larger:
# set TORCH_INDEX_URL to PyTorch's CPU wheel index for a small CPU image.
ARG TARGET=cpu
ARG EXTRA=service

FROM python:3.11-slim AS wheel
WORKDIR /src
COPY docker/requirements/build.txt ./
RUN --mount=type=cache,target=/root/.cache/pip pip install --require-hashes -r build.txt
COPY pyproject.toml README.md LICENSE ./
COPY plaudit plaudit
COPY service service
COPY training training
RUN pip wheel --no-deps --no-index --no-build-isolation --wheel-dir /wheel .


FROM python:3.11-slim AS build
ARG TARGET
ARG EXTRA
ARG TORCH_INDEX_URL=""
RUN case "$TARGET $EXTRA" in \
      "cpu service"|"cuda service"|"cpu training"|"cuda training"|"cuda vllm") ;; \
      *) echo "TARGET is cpu or cuda, EXTRA is service, training or vllm (cuda only), not '$TARGET $EXTRA'" >&2; exit 1 ;; \
    esac; \
    python -m venv /opt/plaudit
ENV PATH=/opt/plaudit/bin:$PATH
WORKDIR /src

# Nothing here may differ by a byte from what docker/lock.sh saw.
COPY constraints.txt docker/requirements ./
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install --require-hashes --no-deps -r "$EXTRA.txt"
# torch by version only: its hash depends on the index. All it needs on a CPU is there already, so
# that the extra index can supply nothing but torch and its CUDA libraries.
RUN --mount=type=cache,target=/root/.cache/pip grep -q '^torch==' "$EXTRA.txt" || \
    pip install ${TORCH_INDEX_URL:+--extra-index-url "$TORCH_INDEX_URL"} -c constraints.txt torch
RUN [ "$TARGET" = cpu ] || python -c 'import sys, torch; sys.exit(None if torch.version.cuda else \
    "this torch has no CUDA: build without TORCH_INDEX_URL, or with the URL of a CUDA index")'
COPY --from=wheel /wheel /wheel
RUN pip install --no-cache-dir --no-deps --no-index /wheel/*.whl && pip check


FROM python:3.11-slim
ARG TARGET
ARG EXTRA
# vLLM's kernels on a GPU are Triton's, which calls a C compiler when it runs.
# hadolint ignore=DL3008
RUN [ "$EXTRA" != vllm ] || { apt-get update && \
    apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*; }
# A name for the numeric user: torch asks the password file for one when it picks a cache folder.
RUN useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin plaudit
COPY --from=build /opt/plaudit /opt/plaudit

# The root file system may be read-only; whatever must be written goes to /tmp.
# PLAUDIT_DEVICE: an image built for CUDA refuses to start without a GPU rather than crawl.
ENV PATH=/opt/plaudit/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    XDG_CACHE_HOME=/tmp/cache \
    HF_HOME=/tmp/huggingface \
    HF_HUB_OFFLINE=1 \
    TORCHINDUCTOR_CACHE_DIR=/tmp/torchinductor \
    TRITON_CACHE_DIR=/tmp/triton \
    PLAUDIT_DEVICE=$TARGET \
    PLAUDIT_PORT=8000

# Numeric, so that Kubernetes can see that it is not root.
USER 10001:10001
WORKDIR /tmp
EXPOSE 8000

HEALTHCHECK --interval=10s --timeout=5s --retries=3 --start-period=10m --start-interval=2s \
    CMD ["python", "-c", "import http.client, os, sys; \
        c = http.client.HTTPConnection('127.0.0.1', int(os.environ['PLAUDIT_PORT']), timeout=4); \
        c.request('GET', '/readyz'); \
        sys.exit(c.getresponse().status != 200)"]

ENTRYPOINT ["plaudit"]
CMD ["serve", "/models/warm", "--host", "0.0.0.0"]
