#!/usr/bin/env bash
# A private PostgreSQL for one run of the tests, with trust authentication and the database `test`.
#
#   postgres.sh start DIRECTORY [PORT]   serves DIRECTORY/data on 127.0.0.1, and initialises it before if it is not there
#   postgres.sh stop DIRECTORY           stops it
#
# Exits with 3 if this machine cannot run one; stderr says why.
set -euo pipefail

fail() { echo "$1" >&2; exit 3; }

programs=$(find /usr/lib/postgresql /usr/local/pgsql -maxdepth 2 -name bin -type d 2>/dev/null | sort -V | tail -n 1 || true)
if [[ -z $programs || ! -x $programs/initdb ]]; then
    programs=$(dirname "$(command -v initdb)" 2>/dev/null) || true
fi
[[ -x $programs/initdb && -x $programs/pg_ctl ]] || fail "PostgreSQL's server programs are not installed (Debian: apt-get install postgresql)"

# PostgreSQL refuses to run as root: root lends the directory to the user that the package made.
as_server=()
if [[ $(id -u) == 0 ]]; then
    id postgres >/dev/null 2>&1 && command -v runuser >/dev/null || fail "root cannot run PostgreSQL, and there is no user \`postgres\`"
    as_server=(runuser -u postgres --)
fi

directory=${2:?DIRECTORY is missing}
port=${3:-5432}
cd "$directory"
case ${1:-} in
start)
    [[ $(id -u) != 0 ]] || chown postgres "$directory"
    fresh=$([[ -e $directory/data ]] || echo yes)
    [[ -z $fresh ]] || "${as_server[@]}" "$programs/initdb" -D "$directory/data" -U postgres -A trust -E UTF8 >/dev/null
    "${as_server[@]}" "$programs/pg_ctl" -D "$directory/data" -w -l "$directory/log" \
        -o "-k $directory -h 127.0.0.1 -p $port -c fsync=off" start >/dev/null || { cat "$directory/log" >&2; exit 1; }
    [[ -z $fresh ]] || "${as_server[@]}" "$programs/createdb" -h 127.0.0.1 -p "$port" -U postgres test
    ;;
stop)
    "${as_server[@]}" "$programs/pg_ctl" -D "$directory/data" -m immediate stop >/dev/null
    ;;
*)
    echo "usage: postgres.sh start|stop DIRECTORY [PORT]" >&2
    exit 2
    ;;
esac
