#!/usr/bin/env bash
# Installs Debian packages that some tests use, where it may; says what is missing where it may not.
# Usage: system_packages.sh PROGRAM=PACKAGE ...
set -uo pipefail
PATH=$PATH:/usr/sbin:/sbin
missing=()
for need in "$@"; do
    command -v "${need%%=*}" >/dev/null || missing+=("${need#*=}")
done
[ ${#missing[@]} -eq 0 ] && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "Installing ${missing[*]} ..."
    (apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}") >/dev/null 2>&1 \
        || echo "Could not install ${missing[*]}: what needs them says so."
else
    echo "Not installed: ${missing[*]} (needs root and apt-get): what needs them says so."
fi
exit 0
