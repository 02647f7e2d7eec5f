#!/usr/bin/env bash
# make_venv.sh PYTHON FOLDER: a virtual environment, also where the system's Python comes without ensurepip (Debian).
set -euo pipefail
python=$1 folder=$2

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "gradnb needs Python 3.11 or newer, $python is $("$python" -V 2>&1). Name another one: make PYTHON=python3.12 ..." >&2
    exit 1
}
if [ -x "$folder/bin/python" ] && "$folder/bin/python" -m pip --version >/dev/null 2>&1; then
    exit 0
fi
if "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    "$python" -m venv "$folder"
else
    # --target leaves the system's packages alone.
    "$python" -m pip install -q --target .tools virtualenv
    PYTHONPATH=.tools "$python" -m virtualenv -q "$folder"
fi
