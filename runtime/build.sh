#!/usr/bin/env bash
# Builds the Python runtime that the binary embeds: runtime/build/{runtime.wasm.zst,base.image}.
# Does nothing if no input has changed. See runtime/README.md.
set -euo pipefail
cd "$(dirname "$0")/.."

build=runtime/build
inputs=(wit runtime/python runtime/builder runtime/requirements.txt runtime/packages.txt runtime/build.sh guest-sdk/python/src
        src/sandbox/image.rs src/sandbox/rewindable.rs Cargo.lock)
# Never imported in the sandbox, so no part of the component.
outside=guest-sdk/python/src/pq/_remote
stamp=$(find "${inputs[@]}" -type f -not -name '*.pyc' -not -path "$outside/*" -print0 | sort -z | xargs -0 sha256sum | sha256sum | cut -d' ' -f1)
if [[ -f $build/base.image && -f $build/runtime.wasm.zst && $(cat $build/stamp 2>/dev/null) == "$stamp" ]]; then
    exit 0
fi

echo "building the Python runtime ..."
mkdir -p "$build"
rm -f "$build/stamp" # a build that is interrupted must not pass for an old one
if ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
    echo "error: building the Python runtime needs python3, 3.10 or newer, on the PATH" >&2
    exit 1
fi
if [[ ! -x $build/venv/bin/componentize-py ]]; then
    rm -rf "$build/venv"
    if ! python3 -m venv "$build/venv"; then
        echo "error: python3 cannot make a virtual environment; on Debian: apt-get install python3-venv" >&2
        exit 1
    fi
fi
"$build/venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes -r runtime/requirements.txt
# Libraries that scripts import, exactly these and nothing that they name as dependencies.
rm -rf "$build/packages"
"$build/venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes --no-deps --no-compile \
    --only-binary :all: --target "$build/packages" -r runtime/packages.txt

echo "[1/2] componentize-py: CPython and the Python code as a component"
# Compiled files of an earlier Python must not get into the component.
find runtime/python guest-sdk/python/src -name __pycache__ -type d -prune -exec rm -rf {} +
PYTHONDONTWRITEBYTECODE=1 "$build/venv/bin/componentize-py" -d wit -w script-runtime componentize \
    -p runtime/python -p guest-sdk/python/src -p "$build/packages" app -o "$build/python.wasm"
echo "[2/2] priming it and taking the snapshot; the first time this compiles wasmtime, which takes minutes"
cargo run --example build-runtime -- "$build/python.wasm" "$build"
echo "$stamp" > "$build/stamp"
