#!/usr/bin/env bash
# Sees to the browser that the HTML report is tested with, and pictured for the README: Chromium.
#
# Where it is missing, on Debian or Ubuntu, it is installed by apt, as root; elsewhere it says what to install.
set -euo pipefail

command -v chromium >/dev/null && exit 0

if ! command -v apt-get >/dev/null; then
    echo "install chromium by this system's own means: the HTML report is tested with it" >&2
    exit 3
fi
sudo=$([ "$(id -u)" = 0 ] || echo sudo)
$sudo apt-get update -qq
$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends chromium
