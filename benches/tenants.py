"""A host of many tenants: lists, publishing, starting and memory, beside a host of one.

Owns: what such a host holds, how it is filled, and which promise each number is held against.
Never: processes (see `servers`).
"""

import shutil
import sqlite3
import statistics
import time

import callers
import servers
from cases import script_of_50_lines, spread
from compare import check
from load import BenchError
from support import Api

# The promises. A change here is a change of what the project says about itself.
LIST_MEDIAN_MS_MAX = 50
PUBLISH_RATIO_MAX = 1.10
START_SECONDS_MAX = 1

SCRIPTS_PER_TENANT = 10
# As many as a host keeps of a tenant.
RECORDS_OF_ONE = 100_000
RECORDS_OF_OTHERS = 10
LIST_CALLS = 300
PUBLICATIONS = 60

# What the API would have written, from what it wrote for the demo's script `hello`: all but the names is the same.
FILL = """
CREATE TEMP TABLE n (n INTEGER PRIMARY KEY);
WITH RECURSIVE count(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM count WHERE n + 1 < :most)
    INSERT INTO n SELECT n FROM count;
CREATE TEMP TABLE hello AS
    SELECT v.* FROM version v JOIN script s ON s.id = v.script_id JOIN tenant t ON t.id = s.tenant_id
    WHERE t.name = 'demo' AND s.name = 'hello' AND v.id = s.live_version_id;
INSERT INTO tenant (name, created_at_ms) SELECT printf('tenant%05d', n), :now FROM n WHERE n < :tenants;
INSERT INTO script (tenant_id, name, created_at_ms)
    SELECT t.id, printf('script%d', n), :now FROM tenant t JOIN n ON n < :scripts WHERE t.name LIKE 'tenant%';
INSERT INTO version (tenant_id, script_id, number, content_hash, load_mode, image_hash, image_bytes, runtime_hash,
                     created_at_ms)
    SELECT s.tenant_id, s.id, 1, h.content_hash, h.load_mode, h.image_hash, h.image_bytes, h.runtime_hash, :now
    FROM hello h, script s JOIN tenant t ON t.id = s.tenant_id WHERE t.name LIKE 'tenant%';
UPDATE script SET live_version_id = (SELECT v.id FROM version v WHERE v.script_id = script.id)
    WHERE live_version_id IS NULL;
INSERT INTO version_file (tenant_id, version_id, position, name, content)
    SELECT v.tenant_id, v.id, f.position, f.name, f.content
    FROM version_file f JOIN hello h ON f.version_id = h.id, version v JOIN tenant t ON t.id = v.tenant_id
    WHERE t.name LIKE 'tenant%';
INSERT INTO endpoint (tenant_id, methods, route, script_id, auth, settings, created_at_ms)
    SELECT s.tenant_id, 'GET', '/' || s.name, s.id, 'jwt', '{"cache":{"ttl":3600}}', :now
    FROM script s JOIN tenant t ON t.id = s.tenant_id WHERE t.name LIKE 'tenant%';
INSERT INTO invocation (tenant_id, id, script_id, version_id, endpoint_id, method, path, status, started_at_ms,
                        duration_us, fuel, dirty_pages, row_count, log)
    SELECT e.tenant_id, printf('%08x-0000-7000-8000-%012x', n, e.id), e.script_id, s.live_version_id, e.id, 'GET',
           e.route, 200, :now, 150, 200000, 41, 0, 'hello'
    FROM tenant t JOIN script s ON s.tenant_id = t.id JOIN endpoint e ON e.tenant_id = t.id AND e.script_id = s.id
         CROSS JOIN n -- last, whatever SQLite expects
    WHERE s.name = 'script0' AND t.name LIKE 'tenant%' AND n < iif(t.name = :busy, :records_of_one, :records_of_others);
INSERT INTO audit (tenant_id, actor, action, target, at_ms)
    SELECT s.tenant_id, 'user ann@acme.example', 'publish_version', s.name, :now
    FROM script s JOIN tenant t ON t.id = s.tenant_id WHERE t.name LIKE 'tenant%';
"""


def tenants(options):
    """Fills one of two data directories, and asks both hosts for the same."""
    count = options.tenants
    middle = f"tenant{count // 2:05}"
    data = {name: options.work / f"data-{name}" for name in ("one", "many")}
    with servers.Pqhost(options.pqhost, data["one"], options.work) as host:
        host.wait()
    shutil.copytree(data["one"], data["many"])
    options.progress(f"filling a data directory with {count:,} tenants")
    fill(data["many"] / "pqhost.db", count, middle)
    with (
        servers.Serving("one", options.pqhost, data["one"], options.work).ready() as one,
        servers.Serving("many", options.pqhost, data["many"], options.work).ready() as many,
    ):
        apis = {"one": Api(one), "many": Api(many)}
        result = {"tenants": count, "memory": {"one, started": one.memory(), "many, started": many.memory()}}
        options.progress("lists")
        result["lists_ms"] = lists = measure_lists(apis["many"], count, middle)
        options.progress("publish")
        publish = measure_publishing(apis)
        result["publish_ms"] = {name: spread(times) for name, times in publish.items()}
        result["memory"] |= {"one, measured": one.memory(), "many, measured": many.memory()}
        options.progress("routing")
        settings = {"cache": {"ttl": 3600}}
        endpoint = {"methods": "GET", "route": "/cached", "script": "hello", "settings": settings}
        apis["one"].call("POST", "/tenants/demo/endpoints", endpoint)
        routing = callers.routing(one, many, apis, count, options)
        result["start_seconds"] = {"one": one.start_seconds, "many": many.start_seconds}
    ratio = statistics.median(publish["many"]) / statistics.median(publish["one"])
    result["checks"] = [
        check(f"{count:,} tenants: {name}, median", times["median"], LIST_MEDIAN_MS_MAX, unit=" ms")
        for name, times in lists.items()
    ]
    result["checks"] += [
        check(f"{count:,} tenants: publish vs one", ratio, PUBLISH_RATIO_MAX, unit="x"),
        check(f"{count:,} tenants: start", result["start_seconds"]["many"], START_SECONDS_MAX, unit=" s"),
        *routing.pop("checks"),
    ]
    result["routing"] = routing
    return result


def fill(database, count, busy):
    values = {
        "most": max(RECORDS_OF_ONE, count),
        "tenants": count,
        "scripts": SCRIPTS_PER_TENANT,
        "busy": busy,
        "records_of_one": RECORDS_OF_ONE,
        "records_of_others": RECORDS_OF_OTHERS,
        "now": int(time.time() * 1000),
    }
    connection = sqlite3.connect(database)
    with connection:
        for statement in FILL.split(";\n"):
            if statement.strip():
                connection.execute(statement, {key: value for key, value in values.items() if f":{key}" in statement})
    filled = connection.execute("SELECT COUNT(*) FROM endpoint").fetchone()[0]
    connection.close()
    if filled < count * SCRIPTS_PER_TENANT:
        raise BenchError(f"only {filled} endpoints were made")


def measure_lists(api, count, middle):
    """Each as long as its page may be by default, 100 entries."""
    invocations = f"/tenants/{middle}/invocations"
    lists = {
        "tenants, first page": "/tenants?limit=100",
        "tenants, middle page": f"/tenants?limit=100{api.cursor_behind('/tenants', count // 2)}",
        "scripts of a tenant": f"/tenants/{middle}/scripts?limit=100",
        "endpoints of a tenant": f"/tenants/{middle}/endpoints?limit=100",
        "invocations, first page": f"{invocations}?limit=100",
        "invocations, middle page": f"{invocations}?limit=100{api.cursor_behind(invocations, RECORDS_OF_ONE // 2)}",
        "audit log of the host": "/audit?limit=100",
        "audit log of a tenant": f"/tenants/{middle}/audit?limit=100",
    }
    times = {}
    for name, path in lists.items():
        page, _ = api.call("GET", path)
        if not page["items"]:
            raise BenchError(f"{path} is empty")
        times[name] = spread([api.call("GET", path)[1] for _ in range(LIST_CALLS)])
    return times


def measure_publishing(apis):
    """Publishes to both in turn, so that a slow minute hits both."""
    times = {name: [] for name in apis}
    for number in range(PUBLICATIONS):
        source = script_of_50_lines(number)
        for name, api in apis.items():
            body = {"files": [{"name": "handler.py", "text": source}]}
            _, took = api.call("POST", f"/tenants/demo/scripts/published{number}/versions", body)
            times[name].append(took)
    return times
