"""The benchmarks of what stands before a handler, or in its place: table, cached, tokens, routing.

Owns: what is run and which promise each number is held against. Never: processes (see `servers`), load (see `load`).
"""

import http.client
from urllib.parse import urlsplit

import servers
from compare import assert_same_answers, check
from load import BenchError, Target, ratio, run_rounds
from rows import result
from support import Api

# The promises. A change here is a change of what the project says about itself.
TABLE_AXUM_MIN = 0.8
CACHED_FASTAPI_MIN = 5.0
CACHED_TOKEN_US_MAX = 5
FRESH_TOKEN_US_MAX = 200
ROUTING_RATIO_MAX = 1.10

TABLE = """
connection = "pg"
schema = "{schema}"
table = "accounts"
page_rows = 1000
"""
CACHED = "cache.ttl = 3600"
SHARED = "cache = { ttl = 3600, shared = true }"
FRESH_TOKENS = 2000
# Tenants that are called in turn.
CALLED = 1000


def table(host, axum, options):
    """A page of 1,000 rows x 6 columns from a table, without a script."""
    targets = [Target("axum+sqlx", axum, f"{axum.url}/accounts")]
    if host:
        file = options.work / "table.toml"
        file.write_text(TABLE.format(schema=host.schema))
        host.host.run("endpoint", "create", host.host.TENANT, "GET", "/pgtable", "--source", file)
        url = f"{host.host.base}/pgtable"
        servers.wait_for(url, host.host.token, host.host)
        targets.insert(0, Target("pqhost", host.host, url, host.host.token))
    assert_same_answers(targets)
    run_rounds(targets, options.rounds, options.seconds, options.progress)
    checks = []
    if host:
        share = ratio(targets[0], targets[1], "requests_per_second")
        checks = [check("table: requests/s vs axum + sqlx", share, TABLE_AXUM_MIN, True, "x")]
    return result(targets, options, checks)


def cached(host, fastapi, options):
    """The demo's hello, given again; once without and once with a token that is checked."""
    targets = [Target("fastapi", fastapi, f"{fastapi.url}/hello")]
    if host:
        for auth in ("jwt", "public"):
            host.create_endpoint(f"/cached-{auth}", "hello", auth, settings=CACHED)
        urls = {auth: f"{host.base}/cached-{auth}" for auth in ("jwt", "public")}
        servers.wait_for(urls["jwt"], host.token, host)
        targets.insert(0, Target("pqhost, public", host, urls["public"]))
        targets.insert(0, Target("pqhost, token", host, urls["jwt"], host.token))
    run_rounds(targets, options.rounds, options.seconds, options.progress)
    checks = []
    if host:
        with_token, public, theirs = targets
        gain = ratio(with_token, theirs, "requests_per_second")
        token_us = with_token.median("cpu_us_per_request") - public.median("cpu_us_per_request")
        checks = [
            check("cached: requests/s vs FastAPI's hello", gain, CACHED_FASTAPI_MIN, True, "x"),
            check("cached: CPU of a token seen before", token_us, CACHED_TOKEN_US_MAX, unit=" us"),
        ]
    return result(targets, options, checks)


def tokens(host, options):
    """CPU of a request with an ES256 token that the host has never seen, beyond that of the same request once more."""
    host.run("signing-key", "create", host.TENANT, "ES256")
    api = Api(host)
    made = [api.call("POST", f"/tenants/{host.TENANT}/tokens", {"name": "bench"})[0] for _ in range(FRESH_TOKENS)]
    # What answers is the same for all of them: only the tokens cost.
    host.create_endpoint("/tokens", "hello", "jwt", settings=SHARED)
    servers.wait_for(f"{host.base}/tokens", host.token, host)
    fresh = call_with_each(host, [token["token"] for token in made])
    again = call_with_each(host, [token["token"] for token in made])
    return {
        "fresh_us": fresh,
        "again_us": again,
        "checks": [check("tokens: CPU of a fresh ES256 token", fresh - again, FRESH_TOKEN_US_MAX, unit=" us")],
    }


def call_with_each(host, texts):
    """Calls once with each token; gives the CPU of a call in microseconds."""
    parts = urlsplit(host.base)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=servers.ANSWER_SECONDS)
    before = host.cpu_seconds()
    for text in texts:
        connection.request("GET", f"{parts.path}/tokens", headers={"Authorization": f"Bearer {text}"})
        response = connection.getresponse()
        body = response.read()
        if response.status != 200:
            raise BenchError(f"a token is answered {response.status}: {body[:300]}")
    connection.close()
    return (host.cpu_seconds() - before) * 1e6 / len(texts)


def routing(one, many, apis, count, options):
    """Requests with tokens, answered from memory: one and many tenants of a host of many, beside one alone."""
    step = max(1, count // CALLED)
    names = [f"tenant{number:05}" for number in range(0, count, step)][:CALLED]
    targets = []
    for label, host, api, callers in (
        ("one tenant", one, apis["one"], ["demo"]),
        ("one of many", many, apis["many"], names[:1]),
        ("many in turn", many, apis["many"], names),
    ):
        lines = []
        for name in callers:
            made, _ = api.call("POST", f"/tenants/{name}/tokens", {"name": "bench"})
            route = "/cached" if name == "demo" else "/script1"
            lines.append(f"/{name}{route} {made['token']}")
        file = options.work / f"routing-{label.replace(' ', '-')}.txt"
        file.write_text("\n".join(lines) + "\n")
        for line in lines:
            path, token = line.split()
            servers.wait_for(f"{host.ingress}{path}", token, host)
        targets.append(Target(f"pqhost, {label}", host, host.ingress, paths=file))
    run_rounds(targets, options.rounds, options.seconds, options.progress)
    of_many, in_turn = (ratio(target, targets[0], "cpu_us_per_request") for target in targets[1:])
    return {
        "targets": [target.summary(options.seconds) for target in targets],
        "checks": [
            check(f"one of {count:,} tenants: CPU of routing and auth vs one", of_many, ROUTING_RATIO_MAX, unit="x"),
            check(f"{count:,} tenants in turn: the same", in_turn, ROUTING_RATIO_MAX, unit="x"),
        ],
    }
