# Sourced by the other scripts: makes .venv on the first run, again when the requirements change, and else does nothing.
# Sets $venv. With the word "dev", the tools that the tests need are there too.

find_python() {
    local candidate
    for candidate in "${PYTHON:-}" python3 python3.14 python3.13 python3.12 python3.11 python; do
        if [ -n "$candidate" ] && command -v "$candidate" >/dev/null 2>&1 &&
            "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "bench: needs Python 3.11 or newer on the PATH, or named in PYTHON=…" >&2
    return 2
}

make_environment() {
    local wanted=$1 python stamp files=(requirements.txt pyproject.toml)
    [ "$wanted" = dev ] && files+=(requirements-dev.txt)
    venv=$PWD/.venv
    stamp=$(cat "${files[@]}" | cksum)
    if [ -f "$venv/.$wanted" ] && [ "$(cat "$venv/.$wanted")" = "$stamp" ]; then
        return
    fi
    python=$(find_python)
    echo "bench: setting up .venv (once; PyTorch is several GB)" >&2
    if [ ! -x "$venv/bin/python" ]; then
        "$python" -m venv "$venv" || {
            echo "bench: '$python -m venv' failed; on Debian and Ubuntu install python3-venv" >&2
            return 2
        }
    fi
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r requirements.txt
    [ "$wanted" = dev ] && "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --editable .
    echo "$stamp" >"$venv/.$wanted"
}
