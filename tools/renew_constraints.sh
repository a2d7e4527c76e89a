#!/usr/bin/env bash
# Regenerate constraints/ for all platforms and all supported Pythons: the newest releases that can be installed together, and the
# oldest that pyproject.toml allows. Requires uv (pip install --group dev).
set -euo pipefail
cd "$(dirname "$0")/.."

compile() {
    python -m uv pip compile --quiet --universal --python-version 3.11 --prerelease disallow --no-annotate \
        --custom-compile-command tools/renew_constraints.sh --extra test --extra bench "$@" pyproject.toml
}

# The peers take part in the resolution, but pyproject.toml pins them itself, and their GPU packages are not needed.
compile --extra backends --group browser --group docs --group foreign --group dev --group peers | grep -vE '^(cuda|jax|nvidia|torch|triton)' >constraints/locked.txt
compile --resolution lowest-direct >constraints/oldest.txt
