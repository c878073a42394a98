#!/usr/bin/env bash
# Installs what is missing, then builds the site of docs/ in results/site; broken links are errors.
# Usage: bash scripts/docs.sh [mkdocs arguments]
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
bash scripts/install.sh
export NO_MKDOCS_2_WARNING=1  # of its theme, on a version to come
exec .venv/bin/python -m mkdocs build --strict --quiet "$@"
