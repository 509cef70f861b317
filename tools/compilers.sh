#!/usr/bin/env bash
# Sees to the compilers that backends call while they run: g++ for MLX, clang 15 or later for tinygrad.
#
# Where one is missing, on Debian or Ubuntu, it is installed by apt, as root; elsewhere it says what to install.
set -euo pipefail

missing=()
command -v g++ >/dev/null || missing+=(g++)
if ! command -v clang-19 >/dev/null; then  # the first that the adapter looks for
    version=$(clang -dumpversion 2>/dev/null || echo 0)
    [ "${version%%.*}" -ge 15 ] || missing+=(clang-19)
fi
[ ${#missing[@]} -gt 0 ] || exit 0

if ! command -v apt-get >/dev/null; then
    echo "install ${missing[*]} by this system's own means: MLX and tinygrad call them" >&2
    exit 3
fi
sudo=$([ "$(id -u)" = 0 ] || echo sudo)
$sudo apt-get update -qq
$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends "${missing[@]}"
