# Virtual environments of the scripts; sourced by them, not run.
#
#   plain_environment NAME CONSTRAINTS REQUIREMENT...   packages only
#   kdexport_environment NAME EXTRAS [BARE...]          kdexport itself, as a user installs it, and
#                                                       packages without their dependencies
#
# Both make the environment `NAME` at the root of the repository, or reuse it where nothing that it
# depends on has changed, and set `venv` to its path. `root` is the root. PYTHON picks another
# interpreter than python3.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=${PYTHON:-python3}
# A user's own folders must not shadow what is installed here.
unset PYTHONPATH PYTHONHOME

plain_environment() {
    venv="$root/$1"
    local constraints="$root/$2"
    shift 2
    local wanted
    wanted=$(_fingerprint "$constraints" "$*")
    if ! _is_current "$wanted"; then
        _new_environment "$constraints"
        "$venv/bin/uv" pip install --quiet --python "$venv/bin/python" -c "$constraints" "$@"
        _finish "$wanted"
    fi
}

kdexport_environment() {
    venv="$root/$1"
    local extras=$2 constraints="$root/constraints.txt" wanted
    shift 2
    wanted=$(_fingerprint "$constraints" "$extras $*")
    if _is_current "$wanted"; then
        # Unchanged, it is left alone: somebody may be using it.
        [ -f "$venv/installed" ] && [ "$(cat "$venv/installed")" = "$(_sources)" ] ||
            _install_kdexport "" --no-deps
    else
        _new_environment "$constraints"
        _install_kdexport "[$extras]" -c "$constraints"
        if [ $# -gt 0 ]; then
            "$venv/bin/uv" pip install --quiet --python "$venv/bin/python" -c "$constraints" \
                --no-deps "$@"
        fi
        _finish "$wanted"
    fi
}

_new_environment() {
    local constraints=$1
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || {
        echo "kdexport needs Python 3.10 or newer; set PYTHON to one (it is $python)." >&2
        exit 1
    }
    echo "Making ${venv#"$root/"}; this takes a few minutes, once." >&2
    rm -rf "$venv"
    "$python" -m venv "$venv"
    # torch comes first and through pip: where a machine has a build of its own, pip's settings
    # know of it and uv's do not. uv is many times faster with everything else.
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
        -c "$constraints" torch setuptools uv
}

_install_kdexport() {
    local extras=$1 wheel
    shift
    # A wheel by way of a source archive: a build in the tree would leave a `build` folder that
    # keeps shipping deleted modules. What is installed is not known until all this has ended.
    rm -rf "$venv/wheel" "$venv/installed"
    "$venv/bin/uv" build --quiet --no-build-isolation --python "$venv/bin/python" \
        --out-dir "$venv/wheel" "$root"
    wheel=$(echo "$venv"/wheel/*.whl)
    "$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --reinstall-package kdexport \
        "$@" "$wheel$extras"
    _sources >"$venv/installed"
}

# What kdexport is built from.
_sources() {
    (
        cd "$root"
        find pyproject.toml README.md LICENSE ./*.py py.typed calib cli core export runtimes \
            -type f ! -name '*.pyc' -print0 | LC_ALL=C sort -z | xargs -0 cksum | cksum
    )
}

# What an environment is made of: Python, versions, dependencies, and how this file does it.
_fingerprint() {
    {
        "$python" -VV
        cat "$1" "$root/pyproject.toml" "$root/scripts/environment.sh"
        echo "$2"
    } | cksum
}

_is_current() {
    [ -f "$venv/fingerprint" ] && [ "$(cat "$venv/fingerprint")" = "$1" ]
}

_finish() {
    # Last of all, so that an interrupted installation starts anew.
    echo "$1" >"$venv/fingerprint"
}
