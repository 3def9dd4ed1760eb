#!/usr/bin/env bash
# Holds a running host against its own OpenAPI documents, of the control API and of a tenant's endpoints: schemathesis makes
# requests from them, good and bad ones, and checks that every answer is one that is documented.
set -euo pipefail
cd "$(dirname "$0")/../.."

venv=tests/contract/.venv
if ! cmp -s tests/contract/requirements.txt "$venv/installed.txt"; then
    echo "installing schemathesis into $venv ..."
    python3 -m venv --clear "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes -r tests/contract/requirements.txt
    cp tests/contract/requirements.txt "$venv/installed.txt"
fi

cargo build --quiet
pqhost=${CARGO_TARGET_DIR:-target}/debug/pqhost
data=$(mktemp -d)
host=
stop() {
    [[ -z $host ]] || kill "$host" 2>/dev/null || true
    wait
    rm -rf "$data"
}
trap stop EXIT

"$pqhost" --data "$data" --json demo --ingress 127.0.0.1:0 --control 127.0.0.1:0 >"$data/address" 2>"$data/log" &
host=$!
until [[ -s $data/address ]]; do
    kill -0 "$host" 2>/dev/null || { cat "$data/log" >&2; exit 1; }
    sleep 0.2
done
said() { python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))[sys.argv[2]])' "$data/address" "$1"; }
control=$(said control)
token=$("$pqhost" --data "$data" --json operator-token create --name contract | python3 -c 'import json, sys; print(json.load(sys.stdin)["token"])')

hold() {
    "$venv/bin/schemathesis" run "$1" --header "Authorization: Bearer $2" "${@:3}" \
        --checks not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance \
        --phases examples,coverage,fuzzing --max-examples "${EXAMPLES:-15}" --generation-deterministic \
        --request-timeout 60 --workers 1
}

hold "$(said ingress)/demo/openapi.json" "$(said token)"
# Left out: a stream without end, and what ends the session that the run is about.
hold "$control/api/v1/openapi.json" "$token" --exclude-operation-id follow_invocations
