#!/usr/bin/env bash
# Runs all tests against a real PostgreSQL: the one on 127.0.0.1:5432 if there is one, else a private one for this run.
set -euo pipefail
cd "$(dirname "$0")/.."

# Native code of the runtime, shared by all tests and runs. Only its owner may write to it.
export PQHOST_TEST_CACHE=${PQHOST_TEST_CACHE:-$HOME/.cache/pqhost-test}
mkdir -p -m 700 "$PQHOST_TEST_CACHE"

reachable() { (exec 3<>"/dev/tcp/127.0.0.1/5432") 2>/dev/null; }

skip=()
if ! reachable; then
    if [[ -n ${CI:-} ]]; then
        echo "error: no PostgreSQL answers on 127.0.0.1:5432" >&2
        exit 1
    fi
    directory=$(mktemp -d)
    stop() {
        if [[ -d $directory/data ]]; then tests/support/postgres.sh stop "$directory" || true; fi
        rm -rf "$directory"
    }
    trap stop EXIT
    if tests/support/postgres.sh start "$directory"; then
        echo "started a private PostgreSQL for this run"
    else
        {
            echo "############################################################################################"
            echo "SKIPPED: every test whose name contains \`data::\` or \`postgres\`."
            echo "They need PostgreSQL on 127.0.0.1:5432 (user postgres, no password, database test)."
            echo "############################################################################################"
        } >&2
        skip=(--skip data:: --skip postgres)
    fi
fi

# Compiles the runtime into the cache, so that the tests do not all compile it at once.
echo "compiling the runtime for the tests, unless that was done before ..."
cargo test --lib -- --quiet sandbox::tests::
cargo test -- ${skip[@]+"${skip[@]}"}
