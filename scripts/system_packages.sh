#!/usr/bin/env bash
# Installs the Debian packages that some tests and the benchmark use, where it may; says what is left out where it may not.
set -uo pipefail
missing=()
command -v redis-benchmark >/dev/null || missing+=(redis-tools)
command -v chromium >/dev/null || missing+=(chromium)
[ ${#missing[@]} -eq 0 ] && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "Installing ${missing[*]} ..."
    (apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}") >/dev/null 2>&1 \
        || echo "Could not install ${missing[*]}: what needs them is left out and says so."
else
    echo "Not installed: ${missing[*]} (needs root and apt-get): what needs them is left out and says so."
fi
exit 0
