#!/usr/bin/env bash
# Run Python on a 64-bit ARM:
#
#   tools/on_aarch64.sh -m pytest tests/kernels/test_bits.py
#
# Where the machine is none, it is emulated: QEMU runs Debian's Python for ARM, with the packages' wheels for ARM. They are put
# into build/aarch64 by the first call; QEMU is installed by it too if you are root (on Debian and its like). Compiling
# takes some 20 times as long as on the machine itself.
set -euo pipefail
cd "$(dirname "$0")/.."
[ "$(uname -m)" != aarch64 ] || exec python3 "$@"

folder=$PWD/build/aarch64
packages="ml-dtypes mpmath numba numpy pytest pytest-xdist"

set_up() {
    rm -rf "$folder"
    command -v qemu-aarch64 || (apt-get update && apt-get install --yes --no-install-recommends qemu-user)
    # Debian's packages for ARM in a folder; those of this machine stay as they are.
    mkdir -p "$folder"/{root,packages,apt/lists/partial,archives/partial}
    touch "$folder/apt/status"
    local apt=(apt-get --yes --no-install-recommends -o APT::Architecture=arm64 -o APT::Architectures=arm64
        -o Dir::State="$folder/apt" -o Dir::State::status="$folder/apt/status" -o Dir::Cache="$folder"
        -o Debug::NoLocking=1)
    "${apt[@]}" update
    "${apt[@]}" install --download-only python3 libstdc++6 libgomp1
    local archive
    for archive in "$folder"/archives/*.deb; do dpkg-deb --extract "$archive" "$folder/root"; done
    local version
    version=$(qemu-aarch64 -L "$folder/root" "$folder/root/usr/bin/python3" -c "import sys; print('%d.%d' % sys.version_info[:2])")
    # shellcheck disable=SC2086
    python3 -m pip install --quiet --target "$folder/packages" --only-binary :all: --python-version "$version" \
        --platform={manylinux2014,manylinux_2_{27,28}}_aarch64 -c constraints/locked.txt $packages
    # Under this name, Python starts itself again.
    cat > "$folder/python" << EOF
#!/bin/sh
export PYTHONHOME="$folder/root/usr" PYTHONPATH="$PWD:$folder/packages:\$PYTHONPATH"
exec qemu-aarch64 -L "$folder/root" -0 "$folder/python" "$folder/root/usr/bin/python3" "\$@"
EOF
    chmod +x "$folder/python"
}

[ -x "$folder/python" ] || set_up > /dev/null
exec "$folder/python" "$@"
