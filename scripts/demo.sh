#!/usr/bin/env bash
# Installs what is missing, then shows the project at work: trains a small network and compares it with bicubic.
set -euo pipefail
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
bash "$root/scripts/install.sh"
exec "$root/.venv/bin/python" -m iafmsr demo --train "$@"
