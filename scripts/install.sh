#!/usr/bin/env bash
# Installs this package with the versions of the lock (requirements.txt) into .venv at the repository root.
# A finished install is recognised in no time; an unfinished or outdated one is made anew.
set -euo pipefail
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
venv=$root/.venv
stamp=$venv/.iafmsr-install
cd -- "$root"

stop() {
    echo "install.sh: $1" >&2
    exit 1
}

# One install at a time; the lock goes with the last process that holds this file open.
exec 9< requirements.txt
if command -v flock > /dev/null && ! flock --nonblock 9; then
    echo "Waiting for another install of $root to finish ..."
    flock 9
fi

# An environment holds absolute paths: a moved tree needs a new one, hence $root.
state=$({ echo "$root"; cat requirements.txt pyproject.toml setup.py; } | cksum)
if [ -x "$venv/bin/python" ] && [ "$(cat "$stamp" 2> /dev/null)" = "$state" ]; then
    exit 0
fi
if [ -e "$venv" ] && [ ! -e "$stamp" ]; then
    stop "$venv was not made by this script: move it away"
fi

python=
for candidate in python3 python3.12 python3.11; do
    # ensurepip: some systems leave it out, and venv needs it
    if "$candidate" -c 'import ensurepip, sys; sys.exit(sys.version_info[:2] not in [(3, 11), (3, 12)])' 2> /dev/null; then
        python=$candidate
        break
    fi
done
[ -n "$python" ] || stop "no Python 3.11 or 3.12 with the venv module on PATH (the lock's NumPy 2.4 needs 3.11 or newer, BasicSR 1.4.2 does not build on 3.13)"

trap '[ $? = 0 ] || echo "install.sh: not finished; the next run starts over" >&2' EXIT
echo "[1/3] Making $venv with $("$python" --version)"
rm -rf -- "$venv"
mkdir -- "$venv"
echo unfinished > "$stamp"
"$python" -m venv "$venv" --upgrade-deps  # Python brings the pip of its own release day

export PIP_DISABLE_PIP_VERSION_CHECK=1
pip=("$venv/bin/python" -m pip install --constraint requirements.txt)
[ -t 1 ] || pip+=(--quiet)  # no progress bars in a log

echo "[2/3] Installing PyTorch and the rest: minutes, and a download of up to 3 GB"
"${pip[@]}" --editable '.[train,test,docs,onnx,fast,serve,spandrel,hub]'

echo "[3/3] Installing BasicSR"
"${pip[@]}" --no-build-isolation --no-deps --use-pep517 basicsr

cd /  # so that the import finds the installed package and not the folder
"$venv/bin/python" -c 'import iafmsr, torch; print(f"Installed: iafmsr {iafmsr.__version__}, torch {torch.__version__}")'
echo "$state" > "$stamp"
