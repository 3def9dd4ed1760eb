#!/usr/bin/env bash
# A private MariaDB for one run of the tests, with a user root without password and the database `test`.
#
#   mariadb.sh start DIRECTORY [PORT]   initialises DIRECTORY/data and serves it on 127.0.0.1
#   mariadb.sh stop DIRECTORY           stops it
#
# Exits with 3 if this machine cannot run one; stderr says why.
set -euo pipefail

fail() { echo "$1" >&2; exit 3; }

PATH=$PATH:/usr/sbin:/usr/local/sbin
for program in mariadbd mariadb-install-db mariadb-admin; do
    command -v "$program" >/dev/null || fail "MariaDB's server programs are not installed (Debian: apt-get install mariadb-server)"
done

# MariaDB refuses to run as root without being told to: root names the user that the package made.
user=$(id -un)
if [[ $user == root ]]; then
    user=mysql
    id "$user" >/dev/null 2>&1 || fail "root cannot run MariaDB, and there is no user \`mysql\`"
fi

directory=${2:?DIRECTORY is missing}
port=${3:-3306}
socket=$directory/socket
case ${1:-} in
start)
    [[ $(id -u) != 0 ]] || chown "$user" "$directory"
    mariadb-install-db --no-defaults --user="$user" --datadir="$directory/data" --auth-root-authentication-method=normal \
        >"$directory/log" 2>&1 || { cat "$directory/log" >&2; exit 1; }
    mariadbd --no-defaults --user="$user" --datadir="$directory/data" --socket="$socket" --bind-address=127.0.0.1 \
        --port="$port" --pid-file="$directory/pid" --innodb-flush-log-at-trx-commit=0 \
        >>"$directory/log" 2>&1 &
    server=$!
    until mariadb-admin --no-defaults --socket="$socket" --user=root ping >/dev/null 2>&1; do
        kill -0 "$server" 2>/dev/null || { cat "$directory/log" >&2; exit 1; }
        sleep 0.2
    done
    mariadb-admin --no-defaults --socket="$socket" --user=root create test 2>/dev/null || true # some versions have it
    ;;
stop)
    mariadb-admin --no-defaults --socket="$socket" --user=root shutdown
    ;;
*)
    echo "usage: mariadb.sh start|stop DIRECTORY [PORT]" >&2
    exit 2
    ;;
esac
