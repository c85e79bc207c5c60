#!/bin/sh
# Writes docker/requirements/: every distribution of the image, at one version, with its hashes.
# Needs uv (pip install uv), and a CPU build of torch in its reach (UV_FIND_LINKS, UV_INDEX), which
# the lock for vLLM does not look at.
# Run it after constraints.txt or a dependency in pyproject.toml changes.
set -eu
cd "$(dirname "$0")/.."
out=docker/requirements

lock() {
  uv pip compile --quiet --python-version 3.11.9 --python-platform x86_64-manylinux_2_28 \
    --generate-hashes --no-annotate --no-header --output-file "$@"
}

# torch and what only its CUDA build brings are no part of these two: another index serves other
# files of the same version, with other hashes. The Dockerfile takes torch by constraints.txt.
lock "$out/service.txt" --constraint constraints.txt --no-emit-package torch \
  --extra service --extra otel pyproject.toml
lock "$out/training.txt" --constraint constraints.txt --no-emit-package torch \
  --extra training pyproject.toml

# vLLM chooses torch itself, and an older numpy than constraints.txt. Of the default index alone, which
# has torch with CUDA: elsewhere a CPU build (+cpu) would pass for the newer one.
vllm=$(mktemp)
echo 'vllm==0.32.0' >"$vllm"
(
  unset UV_FIND_LINKS UV_INDEX UV_EXTRA_INDEX_URL UV_TORCH_BACKEND
  lock "$out/vllm.txt" --no-config --constraint "$vllm" \
    --extra service --extra otel --extra vllm pyproject.toml
)
rm "$vllm"

# What builds the wheel of this repository.
build=$(mktemp)
echo 'hatchling>=1.27' >"$build"
lock "$out/build.txt" "$build"
rm "$build"
