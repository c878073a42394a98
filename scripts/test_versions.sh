#!/usr/bin/env bash
# Makes an environment of the lowest or the newest versions that pyproject.toml admits, and runs tests in it.
# Usage: bash scripts/test_versions.sh lowest|newest PYTHON [pytest arguments]      (PYTHON: python3.10, say)
# The environment is .venv-lowest or .venv-newest in the checkout, and is made anew each time.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

[ $# -ge 2 ] || { sed -n '2,4s/^# //p' "${BASH_SOURCE[0]}" >&2; exit 2; }
which=$1 python=$2
shift 2
# of each requirement `name>=version` in pyproject.toml: that version with its last patch, or the newest
case $which in
    lowest) edit='s/>=\(.*\)/==\1.*/' ;;
    newest) edit='s/>=.*//' ;;
    *) echo "test_versions.sh: $which: lowest or newest is wanted" >&2; exit 2 ;;
esac
wanted() {  # the requirements of a list in pyproject.toml
    sed -n "/^$1 = \[/,/^\]/s/^ *\"\([^\"; ]*\)\".*/\1/p" pyproject.toml | sed "$edit"
}

venv=.venv-$which
rm -rf -- "$venv"
"$python" -m venv "$venv"
pip=("$venv/bin/python" -m pip install --quiet --disable-pip-version-check)
# the tests' own tools may be of any version
"${pip[@]}" $(wanted dependencies) $(wanted train) pytest pytest-xdist hypothesis jsonschema
# BasicSR does not build on Python 3.13: there the tests that need it cannot run
with_basicsr=yes
"${pip[@]}" --no-build-isolation --no-deps 'basicsr==1.4.2' || with_basicsr=no
"$venv/bin/python" -m pip list --format freeze | grep -iE '^(torch|torchvision|numpy|scipy|opencv|pillow|tifffile|pydantic|basicsr)'
export PYTHONPATH=$PWD OMP_NUM_THREADS=1
if [ "$with_basicsr" = no ]; then
    set -- tests/test_{api,neighbours,pictures,tiles,upscale,wheel}.py "$@"
fi
exec "$venv/bin/python" -m pytest -q --deselect tests/test_package.py::test_the_installed_stack_is_that_of_the_lock "$@"
