#!/usr/bin/env bash
# Installs the real peers, each from its registry as its lock file says: quick if nothing has changed.
set -euo pipefail
cd "$(dirname "$0")"

# Runs a command unless it has been run with these very files: MARK FILE.. -- COMMAND..
once() {
    local mark=$1 files=()
    shift
    while [ "$1" != -- ]; do
        files+=("$1")
        shift
    done
    shift
    local sum
    sum=$(cat "${files[@]}" | sha256sum)
    if [ "$(cat "$mark" 2>/dev/null)" != "$sum" ]; then
        "$@"
        printf '%s\n' "$sum" >"$mark"
    fi
}

install_js() {
    (cd js && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error)
}

install_py() {
    # One of its packages is built from source.
    if [ ! -e /usr/include/gmp.h ] && ! ls /usr/include/*/gmp.h >/dev/null 2>&1 && command -v apt-get >/dev/null; then
        apt-get update -qq && apt-get install -qq -y libgmp-dev >/dev/null
    fi
    rm -rf py/.venv
    python3 -m venv py/.venv
    py/.venv/bin/pip install --quiet --disable-pip-version-check --requirement py/requirements.txt
}

once js/node_modules/.installed js/package.json js/package-lock.json -- install_js
once py/.venv/.installed py/requirements.txt -- install_py
cargo build --quiet --locked --manifest-path libp2p-kad/Cargo.toml --target-dir target
