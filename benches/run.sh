#!/usr/bin/env bash
# Sets up what the benchmarks need, builds the peer in Rust, and the program unless --pqhost names one, and runs them.
# `benches/run.sh --help` lists the options.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() {
    echo "error: $*" >&2
    exit 1
}

build=--release
for argument in "$@"; do
    case "$argument" in
        --dev) [[ -z $build ]] || build=dev ;;
        --pqhost | --pqhost=* | --peers-only) build= ;;
        -h | --help) exec python3 benches/bench.py --help ;;
    esac
done

command -v python3 >/dev/null || fail "python3 is not installed: apt-get install python3 python3-venv"
command -v taskset >/dev/null || fail "taskset is not installed: apt-get install util-linux"
if ! command -v wrk >/dev/null; then
    [[ $EUID == 0 ]] && command -v apt-get >/dev/null || fail "wrk is not installed: sudo apt-get install wrk"
    echo "installing wrk ..." >&2
    apt-get install -y --no-install-recommends wrk >/dev/null || fail "apt-get install wrk failed: try apt-get update first"
fi

# A copy of the pinned list marks an environment that was installed completely from it.
venv=benches/.venv
if ! cmp -s benches/requirements.txt "$venv/installed.txt"; then
    echo "installing the peers into $venv ..." >&2
    python3 -m venv --clear "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes -r benches/requirements.txt
    cp benches/requirements.txt "$venv/installed.txt"
fi

# One build, so that both share what they depend on.
packages=(-p bench-axum)
if [[ -n $build ]]; then packages+=(-p pqhost); fi
target=${CARGO_TARGET_DIR:-target}
if [[ $build == dev ]]; then
    target+=/debug
    cargo build "${packages[@]}"
else
    target+=/release
    cargo build --release "${packages[@]}"
fi
program=(--axum "$target/bench-axum")
if [[ -n $build ]]; then program+=(--pqhost "$target/pqhost"); fi
exec python3 benches/bench.py "${program[@]}" "$@"
