#!/usr/bin/env bash
# Makes the virtual environment $1 with the first Python 3.11 or newer that can (3.11 first: what the pins are tested with).
set -euo pipefail

folder=${1:?which folder}
for python in ${PYTHON:-python3.11 python3.12 python3.13 python3.14 python3}; do
    if "$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        echo "Making $folder with $("$python" --version) ..."
        exec "$python" -m venv "$folder"
    fi
done
cat >&2 <<TEXT
make: no Python 3.11 or newer with venv found (tried ${PYTHON:-python3.11 to python3.14, python3}; python3 here is $(python3 --version 2>&1 || true)).
Debian, Ubuntu: apt-get install python3-venv   Elsewhere: install Python 3.11, or name one: make PYTHON=/path/to/python3.12
TEXT
exit 2
