#!/usr/bin/env bash
# Make constraints/ anew, for all platforms and all Pythons from the oldest of pyproject.toml on: the newest releases
# that can be installed together, and the oldest that pyproject.toml allows. Needs uv (pip install --group dev).
set -euo pipefail
cd "$(dirname "$0")/.."

compile() {
    python -m uv pip compile --quiet --universal --python-version 3.11 --prerelease disallow --no-annotate \
        --custom-compile-command tools/renew_constraints.sh --extra test --extra bench "$@" pyproject.toml
}

# The peers must fit in, but pyproject.toml pins them itself, and nobody here has what they bring for GPUs.
compile --group dev --group peers | grep -vE '^(cuda|jax|nvidia|torch|triton)' >constraints/locked.txt
compile --resolution lowest-direct >constraints/oldest.txt
