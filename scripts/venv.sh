#!/usr/bin/env bash
# Makes the virtual environment from the hashed lock, and says how far it is. Usage: scripts/venv.sh FOLDER
set -euo pipefail
venv=$1
lock=requirements/dev.lock
python=${PYTHON:-python3}
"$python" - <<'PY' || { echo "parkgate needs Python 3.11, 3.12 or 3.13 with venv; on Debian: apt-get install python3 python3-venv" >&2; exit 1; }
import sys, venv, ensurepip
sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PY

# pip's lines as progress: one in place on a screen, one for every tenth package in a file.
progress() {
    awk -v total="$(grep -c '==' "$lock")" -v screen="$([ -t 2 ] && echo 1 || echo 0)" '
        function say(text) { printf screen ? "\r\033[K  %s" : "  %s\n", text > "/dev/stderr"; fflush("/dev/stderr") }
        { print; fflush() }
        /^Collecting / { fetched++; if (screen || fetched % 10 == 1) say("fetching package " fetched " of at most " total) }
        /^Installing collected packages/ { say("installing " fetched " packages, about half a minute") }
        END { if (screen) printf "\r\033[K" > "/dev/stderr" }'
}

echo "Setting up $venv (about two minutes the first time) ..."
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
said=$(mktemp)
trap 'rm -f "$said"' EXIT
"$venv/bin/pip" install --disable-pip-version-check --progress-bar off --require-hashes -r "$lock" 2>&1 | progress > "$said" \
    || { tail -n 15 "$said" >&2; echo "The packages of $lock could not be installed; run it again when that is mended." >&2; exit 1; }
PYTHONWARNINGS=ignore "$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
touch "$venv/.installed"
