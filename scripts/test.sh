#!/usr/bin/env bash
# Installs what is missing, then runs ruff, mypy, the build of the docs and the tests.
# Usage: bash scripts/test.sh [--full] [pytest arguments]     (--full: the long forms of the tests)
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

arguments=()
for argument in "$@"; do
    if [ "$argument" = --full ]; then
        export IAFMSR_FULL=1
    else
        arguments+=("$argument")
    fi
done

bash scripts/install.sh
export OMP_NUM_THREADS=1  # two workers on two cores
.venv/bin/ruff check .
.venv/bin/ruff format --check --quiet .
.venv/bin/mypy
bash scripts/docs.sh
exec .venv/bin/python -m pytest -n 2 --durations=15 "${arguments[@]}"
