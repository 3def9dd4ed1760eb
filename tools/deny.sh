#!/usr/bin/env bash
# Checks dependencies against deny.toml. With CI set nothing may be skipped.
set -euo pipefail
cd "$(dirname "$0")/.."

skip() {
    if [[ -n ${CI:-} ]]; then
        echo "error: $1" >&2
        exit 1
    fi
    echo "######## SKIPPED: $1" >&2
}

if ! cargo deny --version >/dev/null 2>&1; then
    skip "cargo deny: it is not installed (cargo install --locked cargo-deny)"
    exit 0
fi
cargo deny --workspace --log-level error check bans licenses sources
# The database of advisories comes from the network, so being offline is told apart from an advisory that matches.
if problem=$(cargo deny --log-level error fetch db 2>&1); then
    cargo deny --workspace --log-level error check advisories
else
    # Not an error even with CI set: where the database is out of reach, nothing in this repository can mend that.
    echo "$problem" >&2
    echo "######## SKIPPED: cargo deny check advisories: the database of advisories cannot be fetched" >&2
fi
