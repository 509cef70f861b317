#!/usr/bin/env bash
# Runs a lossref command on 64-bit Arm, emulated: tools/arm64.sh [ARGUMENT...], by default `bits --check`.
#
# On Debian or Ubuntu on x86-64. Once, it installs an emulator (qemu-user-static) and debootstrap by apt, as root where they are missing,
# unpacks Debian's Python 3.11 for arm64 and this project's dependencies in build/arm64, and leaves the system as it is otherwise. Nothing
# of it is run by root or in a chroot: the emulator takes the libraries from that folder. The kernels are compiled under emulation.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

PYTHON=${PYTHON:-.venv/bin/python}
HOME_ARM=$PWD/build/arm64
ROOT=$HOME_ARM/root
SITE=$HOME_ARM/site

if ! command -v qemu-aarch64-static >/dev/null || ! command -v /usr/sbin/debootstrap >/dev/null; then
    sudo=$([ "$(id -u)" = 0 ] || echo sudo)
    $sudo apt-get update -qq
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends qemu-user-static debootstrap
fi

if [ ! -e "$ROOT/complete" ]; then
    rm -rf "$ROOT"
    mkdir -p "$HOME_ARM"
    # The first stage needs no Arm: it downloads. The packages are unpacked here; their scripts are not run.
    /usr/sbin/debootstrap --arch=arm64 --foreign --variant=minbase --include=python3.11,libstdc++6,libgomp1 bookworm "$ROOT" \
        >"$HOME_ARM/debootstrap.log" || { tail "$HOME_ARM/debootstrap.log" >&2; exit 3; }
    for package in "$ROOT"/var/cache/apt/archives/*.deb; do
        dpkg -x "$package" "$ROOT"
    done
    touch "$ROOT/complete"
fi

if [ ! -e "$SITE/complete" ] || [ pyproject.toml -nt "$SITE/complete" ] || [ constraints.txt -nt "$SITE/complete" ]; then
    rm -rf "$SITE"
    wanted=$("$PYTHON" -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"], sep="\n")')
    readarray -t wanted <<<"$wanted"
    platforms=()
    for glibc in 2_36 2_35 2_34 2_31 2_28 2_27 2_26 2_24 2_17; do  # what bookworm's C library admits
        platforms+=(--platform "manylinux_${glibc}_aarch64")
    done
    "$PYTHON" -m pip install --quiet --disable-pip-version-check --target "$SITE" --only-binary=:all: --constraint constraints.txt \
        "${platforms[@]}" --platform manylinux2014_aarch64 --implementation cp --python-version 3.11 --abi cp311 --abi abi3 --abi none \
        "${wanted[@]}"
    touch "$SITE/complete"
fi

export PYTHONPATH=$SITE NUMBA_CACHE_DIR=$HOME_ARM/cache PYTHONPYCACHEPREFIX=$HOME_ARM/pycache
[ $# -gt 0 ] || set -- bits --check
exec qemu-aarch64-static -L "$ROOT" "$ROOT/usr/bin/python3.11" -m conformance.cli "$@"
