#!/usr/bin/env bash
# Makes the virtual environment from the hashed lock. Usage: scripts/venv.sh FOLDER
set -euo pipefail
venv=$1
python=${PYTHON:-python3}
"$python" - <<'PY' || { echo "parkgate needs Python 3.11, 3.12 or 3.13 with venv; on Debian: apt-get install python3 python3-venv" >&2; exit 1; }
import sys, venv, ensurepip
sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PY
echo "Setting up $venv (about two minutes the first time) ..."
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
"$venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.lock
PYTHONWARNINGS=ignore "$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
touch "$venv/.installed"
