#!/usr/bin/env bash
# Makes an environment of the lowest or the newest versions that pyproject.toml admits, and runs the tests in it.
# Usage: bash scripts/test_versions.sh lowest|newest PYTHON [pytest arguments]      (PYTHON: 3.10, say)
# Needs uv. The environment is .venv-lowest-3.10 or the like in the checkout; remove it to have it made anew.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

[ $# -ge 2 ] || { sed -n '2,4s/^# //p' "${BASH_SOURCE[0]}" >&2; exit 2; }
which=$1 python=$2
shift 2
case $which in
    lowest) options=(--resolution lowest-direct --extra train) ;;  # of the extras, the tests skip what is not there
    # all extras, but one package of spconv: they have the same files
    newest) options=(--extra={train,onnx,fast,metrics,serve,hub,spandrel,browser,docs,test,spconv-cu126}) ;;
    *) echo "test_versions.sh: $which: lowest or newest is wanted" >&2; exit 2 ;;
esac

venv=.venv-$which-$python
if [ ! -e "$venv/made" ]; then
    uv venv --clear --python "$python" "$venv"
    install=(uv pip install --python "$venv" --quiet)
    "${install[@]}" --only-binary :all: "${options[@]}" --requirements pyproject.toml
    "${install[@]}" pytest pytest-xdist hypothesis jsonschema pip  # the tests' own tools may be of any version
    # BasicSR does not build on Python 3.13: there the tests that need it cannot run
    "${install[@]}" --no-build-isolation --no-deps basicsr || echo 'without BasicSR'
    touch "$venv/made"
fi
uv pip freeze --python "$venv" | grep -iE '^(torch|torchvision|numpy|scipy|opencv|pillow|tifffile|pydantic|basicsr)'
export PYTHONPATH=$PWD OMP_NUM_THREADS=1
if ! "$venv/bin/python" -c 'import importlib.util as u; raise SystemExit(not u.find_spec("basicsr"))'; then
    set -- tests/test_{api,neighbours,pictures,tiles,upscale,wheel}.py "$@"
fi
exec "$venv/bin/python" -m pytest -q --deselect tests/test_package.py::test_the_installed_stack_is_that_of_the_lock "$@"
