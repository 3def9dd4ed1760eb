#!/usr/bin/env bash
# Runs all tests against a real PostgreSQL and a real MariaDB: those on 127.0.0.1:5432 and 127.0.0.1:3306 if there are
# such, else private ones for this run.
set -euo pipefail
cd "$(dirname "$0")/.."

# Native code of the runtime, shared by all tests and runs. Only its owner may write to it.
export PQHOST_TEST_CACHE=${PQHOST_TEST_CACHE:-$HOME/.cache/pqhost-test}
mkdir -p -m 700 "$PQHOST_TEST_CACHE"

reachable() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

skip=()
directories=() # of private servers: script, directory, script, directory, ...
stop() {
    local nth
    for ((nth = 0; nth < ${#directories[@]}; nth += 2)); do
        if [[ -d ${directories[nth + 1]}/data ]]; then "${directories[nth]}" stop "${directories[nth + 1]}" || true; fi
        rm -rf "${directories[nth + 1]}"
    done
}
trap stop EXIT

# need NAME PORT SCRIPT ACCOUNT FILTER...: a server, or else the tests that FILTERs name are skipped, loudly.
need() {
    local name=$1 port=$2 script=$3 account=$4 directory filter
    shift 4
    if reachable "$port"; then return; fi
    if [[ -n ${CI:-} ]]; then
        echo "error: no $name answers on 127.0.0.1:$port" >&2
        exit 1
    fi
    directory=$(mktemp -d)
    directories+=("$script" "$directory")
    if "$script" start "$directory"; then
        echo "started a private $name for this run"
        return
    fi
    {
        echo "############################################################################################"
        echo "SKIPPED: every test whose name contains one of: $*"
        echo "They need $name on 127.0.0.1:$port ($account, no password, database test)."
        echo "############################################################################################"
    } >&2
    for filter; do skip+=(--skip "$filter"); done
}

need PostgreSQL 5432 tests/support/postgres.sh "user postgres" data:: postgres
# Many tests of `data` run on all kinds of databases.
need MariaDB 3306 tests/support/mariadb.sh "user root" data:: mysql

cpython_tests=${PQHOST_CPYTHON_TESTS:-/usr/lib/python3.11/test}
if [[ ! -d $cpython_tests/test_json ]]; then
    if [[ -n ${CI:-} ]]; then
        echo "error: CPython's own tests are not in $cpython_tests: apt-get install libpython3.11-testsuite" >&2
        exit 1
    fi
    {
        echo "############################################################################################"
        echo "SKIPPED: CPython's own tests in the sandbox, because they are not in $cpython_tests."
        echo "On Debian 12: apt-get install libpython3.11-testsuite; elsewhere see docs/FIDELITY.md."
        echo "############################################################################################"
    } >&2
    skip+=(--skip fidelity::)
fi

# Compiles the runtime into the cache, so that the tests do not all compile it at once.
echo "compiling the runtime for the tests, unless that was done before ..."
cargo test --lib -- --quiet sandbox::tests::
cargo test -- ${skip[@]+"${skip[@]}"}
