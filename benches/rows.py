"""The benchmarks with a database: accounts, wide, touched, insert, memory.

Owns: what is run and which promise each number is held against. Never: processes (see `servers`), load (see `load`).
"""

import http.client
import json
import os
import secrets
import statistics
import subprocess
import time
from datetime import datetime
from urllib.parse import urlsplit

import cases
import servers
from compare import assert_same_answers, check
from load import BenchError, Target, ratio, run_rounds

# The promises. A change here is a change of what the project says about itself.
ACCOUNTS_FASTAPI_MIN = 2.0
WIDE_FASTAPI_MIN = 3.0
WIDE_AXUM_MIN = 0.7
TOUCHED_FASTAPI_MIN = 0.6
INSERT_AXUM_MAX = 1.3
STREAM_GROWTH_BYTES_MAX = 8 * 2**20

# Answers of 2 MB: more callers at once only wait longer.
WIDE_CONNECTIONS = 2
ORDER = json.dumps({"customer": "Énergie Société", "quantity": 3, "price": 19.5})

# The same table again and again, so that both streams have the same rows.
STREAMED = "SELECT w.* FROM {schema}.wide AS w, generate_series(1, {times})"
STREAM_TIMES = 100
# The caller's pause in the middle: what the host would hoard for a slow one.
STREAM_PAUSE_SECONDS = 2
STREAM_READ_BYTES = 64 * 2**10

RESHAPED = """[
        {{
            "id": row["id"],
            "name": row["name"].upper(),
            "industry": row["industry"] or "unknown",
            "revenue": round(row["revenue"] * 1.21, 2),
        }}
        for row in rows
        if row["active"] and row["revenue"] is not None
    ]
"""
TOUCHED = f"""
def handler(request):
    rows = pq.dbconnect("pg").fetch("pg", "{{schema}}", "accounts")
    return {RESHAPED}"""
# The same, and how long its parts took, in the log.
TOUCHED_IN_PARTS = f"""
import time
def handler(request):
    times = [time.perf_counter_ns()]
    rows = pq.dbconnect("pg").fetch("pg", "{{schema}}", "accounts")
    times.append(time.perf_counter_ns())
    rows = list(rows)
    times.append(time.perf_counter_ns())
    answer = {RESHAPED}
    times.append(time.perf_counter_ns())
    print(*(after - before for before, after in zip(times, times[1:])))
    return answer
"""
PARTS_CALLS = 200
INSERT = """
def handler(request):
    return pq.dbconnect("pg").insert("pg", "{schema}", "orders", request["json"])["detail"]
"""
STREAM = """
def handler(request):
    return pq.dbconnect("pg").fetch("pg", query="{statement}")
"""


def untouched(table):
    return f'def handler(request):\n    return pq.dbconnect("pg").fetch("pg", "{{schema}}", "{table}")\n'


class Tables:
    """The tables, in a schema that exists for one run."""

    def __init__(self, postgres):
        self.schema = f"pqhost_bench_{os.getpid()}_{secrets.token_hex(4)}"
        self.env = {"BENCH_POSTGRES": postgres, "BENCH_SCHEMA": self.schema}

    def run(self, command):
        words = [servers.VENV / "python", servers.HERE / "peers" / "table.py", command, self.schema]
        done = subprocess.run(words, env={**os.environ, **self.env}, capture_output=True, text=True, timeout=60)
        if done.returncode != 0:
            reason = (done.stderr.strip().splitlines() or ["no output"])[-1]
            raise BenchError(
                f"cannot {command} the tables in PostgreSQL: {reason}\n"
                "give its URL with --postgres, or leave these benchmarks out with --only hello,publish"
            )
        return done.stdout.strip()

    def __enter__(self):
        try:
            self.server_version = self.run("create")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        try:
            self.run("drop")
        except BenchError as error:
            # The run's own failure, if there is one, matters more.
            print(f"warning: schema {self.schema} may be left behind: {error}")


class Host:
    """pqhost with a connection to the tables."""

    def __init__(self, host, tables, options):
        self.host = host
        self.schema = tables.schema
        self.work = options.work
        host.run("connection", "create", host.TENANT, "pg", tables.env["BENCH_POSTGRES"])

    def publish(self, name, source, method="GET", **names):
        """Publishes a script and gives its URL, once it answers."""
        file = self.work / f"{name}.py"
        file.write_text(source.format(schema=self.schema, **names))
        self.host.publish({name: file})
        self.host.create_endpoint(f"/{name}", name, "jwt", method)
        url = f"{self.host.base}/{name}"
        servers.wait_for(url, self.host.token, self.host, body=ORDER if method == "POST" else None)
        return url

    def target(self, name, source, method="GET", **options):
        url = self.publish(f"pg{name}", source, method)
        return Target("pqhost", self.host, url, self.host.token, **options)


def result(targets, options, checks):
    return {"targets": [target.summary(options.seconds) for target in targets], "checks": checks}


def accounts(host, fastapi, options):
    """1,000 rows x 6 columns, returned untouched."""
    targets = [
        Target("fastapi+asyncpg", fastapi, f"{fastapi.url}/accounts"),
        Target("fastapi+asyncpg, response model", fastapi, f"{fastapi.url}/accounts-model"),
    ]
    if host:
        targets.insert(0, host.target("accounts", untouched("accounts")))
    assert_same_answers(targets, lambda answer, _: sorted(answer, key=lambda row: row["id"]))
    run_rounds(targets, options.rounds, options.seconds, options.progress)
    checks = []
    if host:
        gain = ratio(targets[0], targets[1], "requests_per_second")
        checks = [check("accounts: requests/s vs FastAPI + asyncpg", gain, ACCOUNTS_FASTAPI_MIN, True, "x")]
    return result(targets, options, checks)


def wide(host, fastapi, axum, options):
    """10,000 rows x 10 columns of many types, returned untouched."""
    few = {"connections": WIDE_CONNECTIONS}
    targets = [
        Target("axum+sqlx", axum, f"{axum.url}/wide", **few),
        Target("fastapi+asyncpg", fastapi, f"{fastapi.url}/wide", **few),
        Target("fastapi+asyncpg, response model", fastapi, f"{fastapi.url}/wide-model", **few),
    ]
    if host:
        targets.insert(0, host.target("wide", untouched("wide"), **few))

    def comparable(answer, _):
        # `Z` and `+00:00`, `.1` and `.100000` are the same.
        rows = [{**row, "updated_at": datetime.fromisoformat(row["updated_at"])} for row in answer]
        return sorted(rows, key=lambda row: row["id"])

    assert_same_answers(targets, comparable)
    run_rounds(targets, options.rounds, options.seconds, options.progress)
    checks = []
    if host:
        rate = "requests_per_second"
        ours, native, python, _ = targets
        checks = [
            check("wide: requests/s vs FastAPI + asyncpg", ratio(ours, python, rate), WIDE_FASTAPI_MIN, True, "x"),
            check("wide: requests/s vs axum + sqlx", ratio(ours, native, rate), WIDE_AXUM_MIN, True, "x"),
        ]
    return result(targets, options, checks)


def touched(host, fastapi, options):
    """1,000 rows x 6 columns, filtered and reshaped in Python."""
    targets = [
        Target("fastapi+asyncpg", fastapi, f"{fastapi.url}/touched"),
        Target("fastapi+asyncpg, JSONResponse", fastapi, f"{fastapi.url}/touched-response"),
    ]
    if host:
        targets.insert(0, host.target("touched", TOUCHED))
    assert_same_answers(targets, lambda answer, _: sorted(answer, key=lambda row: row["id"]))
    run_rounds(targets, options.rounds, options.seconds, options.progress)
    checks = []
    if host:
        share = ratio(targets[0], targets[1], "requests_per_second")
        checks = [check("touched: requests/s vs FastAPI + asyncpg", share, TOUCHED_FASTAPI_MIN, True, "x")]
    return result(targets, options, checks) | ({"parts_us": parts_of_touched(host)} if host else {})


def parts_of_touched(host):
    """Where the time of one request goes when nothing else runs, in microseconds."""
    host.publish("pgparts", TOUCHED_IN_PARTS)
    cases.call_each(host.host, ["/pgparts"] * PARTS_CALLS)
    entries = cases.logged(host.host, {"pgparts"}, PARTS_CALLS)
    parts = {"statement": [], "rows into Python": [], "filter and reshape": [], "all else": []}
    for entry in entries:
        times = [int(nanoseconds) / 1e3 for nanoseconds in entry["log"].split()]
        times.append(entry["duration_us"] - sum(times))
        for part, microseconds in zip(parts.values(), times, strict=True):
            part.append(microseconds)
    return {name: statistics.median(part) for name, part in parts.items()}


def insert(host, fastapi, axum, options):
    """One row by POST, given back with its key: many callers at once, and one caller alone."""

    def targets_of(connections):
        suffix = ", one caller" if connections == 1 else ""
        more = {"body": ORDER, "connections": connections}
        targets = [
            Target(f"axum+sqlx{suffix}", axum, f"{axum.url}/orders", **more),
            Target(f"fastapi+asyncpg{suffix}", fastapi, f"{fastapi.url}/orders", **more),
        ]
        if host:
            targets.insert(0, Target(f"pqhost{suffix}", host.host, ours, host.host.token, **more))
        return targets

    ours = host and host.publish("pginsert", INSERT, "POST")
    many, alone = targets_of(32), targets_of(1)

    def comparable(answer, _):
        # Each insert has its own.
        key, created = answer.pop("id"), datetime.fromisoformat(answer.pop("created_at"))
        return {**answer, "has key": type(key) is int, "zone": created.utcoffset()}

    assert_same_answers(many, comparable)
    checks = []
    for targets in (many, alone):
        run_rounds(targets, options.rounds, options.seconds, options.progress)
    if host:
        longer = ratio(alone[0], alone[1], "p50_us")
        checks = [check("insert: time of one vs axum + sqlx", longer, INSERT_AXUM_MAX, False, "x")]
    return result(many + alone, options, checks)


def memory(host, options):
    """What the host holds while it streams 10,000 and 1,000,000 rows to a caller who pauses."""
    urls = {
        times: host.publish(f"pgstream{times}", STREAM, statement=STREAMED.format(schema=host.schema, times=times))
        for times in (1, STREAM_TIMES)
    }
    # What the first streams leave with the allocator counts for neither.
    for _ in range(3):
        stream(host.host, urls[1])
    measured = {}
    for times, url in urls.items():
        host.host.forget_peak_memory()
        begun = time.monotonic()
        n_bytes = stream(host.host, url)
        measured[times] = {
            "bytes": n_bytes,
            "seconds": time.monotonic() - begun,
            "peak_rss": host.host.peak_memory(),
        }
    few, many = measured[1], measured[STREAM_TIMES]
    # Brackets and commas aside, the same bytes a hundred times: nothing is missing.
    if many["bytes"] < few["bytes"] * STREAM_TIMES - STREAM_TIMES:
        raise BenchError(f"the long stream had {many['bytes']} bytes, the short one {few['bytes']}")
    grown = (many["peak_rss"] - few["peak_rss"]) / 2**20
    bound = STREAM_GROWTH_BYTES_MAX / 2**20
    return {
        "10,000 rows": few,
        "1,000,000 rows": many,
        "checks": [check("memory: peak of 1,000,000 rows - of 10,000", grown, bound, unit=" MiB")],
    }


def stream(host, url):
    """Reads an answer to its end, with a pause, and keeps none of it; gives its length."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=servers.ANSWER_SECONDS)
    connection.request("GET", parts.path, headers={"Authorization": f"JWT {host.token}"})
    response = connection.getresponse()
    if response.status != 200:
        raise BenchError(f"{url} answered {response.status}: {response.read()[:300]}")
    n_bytes, paused = 0, False
    # A stream that breaks off raises `IncompleteRead`.
    while piece := response.read(STREAM_READ_BYTES):
        n_bytes += len(piece)
        if not paused and n_bytes > 2**20:
            paused = True
            time.sleep(STREAM_PAUSE_SECONDS)
    connection.close()
    return n_bytes
