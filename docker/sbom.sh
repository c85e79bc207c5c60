#!/bin/sh
# Writes what is in the image, as CycloneDX, from the locks: a file for each of its targets.
#   sh docker/sbom.sh sbom            # needs cyclonedx-py (pip install cyclonedx-bom)
# The same locks give the same bytes.
set -eu
out=$(mkdir -p "${1:?name a folder to write to, such as: sh docker/sbom.sh sbom}" && cd "$1" && pwd)
cd "$(dirname "$0")/.."

write() {
  cyclonedx-py requirements --pyproject pyproject.toml --spec-version 1.6 --output-reproducible \
    --validate --output-file "$out/$1.cdx.json" -
}

# torch is in no lock, since its index serves it: see docker/lock.sh.
for name in service training; do
  { cat "docker/requirements/$name.txt"; grep '^torch==' constraints.txt; } | write "$name"
done
write vllm <docker/requirements/vllm.txt
