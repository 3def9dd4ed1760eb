#!/usr/bin/env bash
# Runs all tests against a real PostgreSQL: the one on 127.0.0.1:5432 if there is one, else a private one for this run.
set -euo pipefail
cd "$(dirname "$0")/.."

reachable() { (exec 3<>"/dev/tcp/127.0.0.1/5432") 2>/dev/null; }

if ! reachable; then
    if [[ -n ${CI:-} ]]; then
        echo "error: no PostgreSQL answers on 127.0.0.1:5432" >&2
        exit 1
    fi
    programs=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1 || true)
    if [[ -n $programs && $(id -u) != 0 ]]; then
        directory=$(mktemp -d)
        trap '"$programs/pg_ctl" -D "$directory/data" -m immediate stop >/dev/null; rm -rf "$directory"' EXIT
        "$programs/initdb" -D "$directory/data" -U postgres -A trust >/dev/null
        "$programs/pg_ctl" -D "$directory/data" -w -l "$directory/log" -o "-k $directory -h 127.0.0.1 -p 5432" start >/dev/null
        "$programs/createdb" -h 127.0.0.1 -U postgres test
    else
        echo "SKIPPED: all tests that need PostgreSQL. None answers on 127.0.0.1:5432 (user postgres, no password, database" >&2
        echo "         test), and a private one needs its programs installed and a user that is not root." >&2
        PQHOST_TEST_WITHOUT_POSTGRES=1
    fi
fi

if [[ -n ${PQHOST_TEST_WITHOUT_POSTGRES:-} ]]; then
    cargo test -- --skip data:: --skip postgres
else
    cargo test
fi
