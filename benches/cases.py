"""The benchmarks without a database: hello, cached, publish.

Owns: what is run and which promise each number is held against. Never: processes (see `servers`), load (see `load`).
"""

import http.client
import os
import statistics
import time
from urllib.parse import urlsplit

import servers
from compare import assert_same_answers, check
from load import BenchError, Target, ratio, run_rounds

# The promises. A change here is a change of what the project says about itself.
HELLO_FASTAPI_MIN = 1.1
HELLO_FLASK_MIN = 2.0
HELLO_P99_FASTAPI_MAX = 1.0
HELLO_CPU_US_MAX = 100
CACHED_FASTAPI_MIN = 5.0
PUBLISH_MS_MAX = 100
FIRST_CALL_MS_MAX = 5
# With the runtime compiled before.
START_SECONDS_MAX = 1
IDLE_BYTES_MAX = 50 * 2**20
DISK_BYTES_PER_SCRIPT_MAX = 300 * 2**10

# One `script publish` gets this many scripts: enough to make the start of the process irrelevant, few enough for argv.
PUBLISH_BATCH = 250
# The host writes its log behind the answers.
LOG_SECONDS = 15


def hello(host, fastapi, flask, options):
    """A JSON object with nothing behind it: what the way through the server costs."""
    targets = [Target("fastapi", fastapi, f"{fastapi.url}/hello"), Target("flask", flask, f"{flask.url}/hello")]
    if host:
        targets.insert(0, Target("pqhost", host, f"{host.base}/hello", host.token))
        servers.wait_for(targets[0].url, host.token, host)

    def without_route(answer, target):
        path = urlsplit(target.url).path.removeprefix("/demo")
        return {**answer, "path": answer["path"].removeprefix("/demo") == path}

    assert_same_answers(targets, without_route)
    run_rounds(targets, options.rounds, options.seconds, options.progress)
    result = {"targets": [target.summary(options.seconds) for target in targets], "checks": []}
    if host:
        ours, theirs, flask_target = targets
        rate = "requests_per_second"
        result["checks"] = [
            check("hello: requests/s vs FastAPI", ratio(ours, theirs, rate), HELLO_FASTAPI_MIN, True, "x"),
            check("hello: requests/s vs Flask", ratio(ours, flask_target, rate), HELLO_FLASK_MIN, True, "x"),
            check("hello: p99 vs FastAPI", ratio(ours, theirs, "p99_us"), HELLO_P99_FASTAPI_MAX, False, "x"),
            check("hello: CPU, rewinding included", ours.median("cpu_us_per_request"), HELLO_CPU_US_MAX, unit=" us"),
        ]
    return result


def cached(host, fastapi, options):
    """The object of hello from memory, the token checked: what a partner's poll costs."""
    targets = [Target("fastapi", fastapi, f"{fastapi.url}/hello")]
    if host:
        host.create_endpoint("/cached", "hello", "jwt", settings="cache.ttl = 3600")
        targets.insert(0, Target("pqhost, from memory", host, f"{host.base}/cached", host.token))
        servers.wait_for(targets[0].url, host.token, host)
    assert_same_answers(targets, lambda answer, _: {**answer, "path": None})
    run_rounds(targets, options.rounds, options.seconds, options.progress)
    result = {"targets": [target.summary(options.seconds) for target in targets], "checks": []}
    if host:
        ours = ratio(*targets, "requests_per_second")
        result["checks"] = [check("cached: requests/s vs FastAPI's hello", ours, CACHED_FASTAPI_MIN, True, "x")]
    return result


def script_of_50_lines(number):
    """A plausible handler whose bytes differ for each number, so that nothing can be shared by content."""
    head = f'"""Handler {number}."""\n\nimport json\nimport re\nfrom decimal import Decimal\n\n'
    head += f"NUMBER = {number}\nRATES = {{\n"
    rates = "".join(f'    "code{i}": Decimal("{number % 97}.{i:02}"),\n' for i in range(20))
    tail = """}


def total(lines):
    amount = Decimal(0)
    for line in lines:
        rate = RATES.get(line.get("code"), Decimal(1))
        amount += Decimal(str(line["amount"])) * rate
    return amount


class Order:
    def __init__(self, lines):
        self.lines = lines

    def summary(self):
        return {"number": NUMBER, "total": total(self.lines), "lines": len(self.lines)}


def handler(request):
    lines = json.loads(request["data"]) if request["data"] else [{"code": "code1", "amount": 2}]
    return Order(lines).summary()
"""
    source = head + rates + tail
    assert source.count("\n") == 50, source.count("\n")
    return source


def disk_bytes(directory):
    """Blocks that files occupy, each file once however many names it has."""
    seen = {}
    for folder, _, files in os.walk(directory):
        for name in files:
            try:
                stat = os.lstat(os.path.join(folder, name))
            except FileNotFoundError:
                continue  # a temporary file of the running host
            seen[stat.st_dev, stat.st_ino] = stat.st_blocks * 512
    return sum(seen.values())


def call_each(host, routes):
    """Calls one after the other on one connection; gives the milliseconds that each took for the caller."""
    parts = urlsplit(host.base)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=servers.ANSWER_SECONDS)
    times = []
    for route in routes:
        start = time.perf_counter()
        connection.request("GET", parts.path + route, headers={"Authorization": f"JWT {host.token}"})
        response = connection.getresponse()
        body = response.read()
        times.append((time.perf_counter() - start) * 1e3)
        if response.status != 200:
            raise BenchError(f"{route} answered {response.status}: {body[:300]}")
    connection.close()
    return times


def logged(host, scripts, count):
    """The newest log entries of these scripts, once there are so many."""
    deadline = time.monotonic() + LOG_SECONDS
    while True:
        found = [entry for entry in host.run("logs", host.TENANT, "--last", 1000) if entry["script"] in scripts]
        if len(found) >= count:
            return found[-count:]
        if time.monotonic() > deadline:
            raise BenchError(f"the log has {len(found)} of {count} invocations after {LOG_SECONDS} s")
        time.sleep(0.2)


def publish(host, options):
    """Scripts that lie idle: time to publish one, time of its first call, and what many of them occupy."""
    files = {}
    for number in range(options.scripts):
        files[f"idle{number}"] = options.work / f"idle{number}.py"
        files[f"idle{number}"].write_text(script_of_50_lines(number))
    first, *others = files
    routes = [f"/{name}" for name in others]

    host.publish({first: files[first]})
    host.create_endpoint(f"/{first}", first, "public")
    servers.wait_for(f"{host.base}/{first}", server=host)
    # As many calls as later with many scripts: what calls leave behind must not count as the scripts'.
    warm_client = call_each(host, [f"/{first}"] * options.scripts)
    warm = [entry["duration_us"] / 1e3 for entry in logged(host, {first}, options.scripts)]
    with_one = host.memory()
    disk_before = disk_bytes(host.data)

    published = []
    for start in range(0, len(others), PUBLISH_BATCH):
        batch = others[start : start + PUBLISH_BATCH]
        published += host.publish({name: files[name] for name in batch})
        options.progress(f"published {len(published)}/{len(others)}")
    disk_after = disk_bytes(host.data)
    with_all = host.memory()

    for number, name in enumerate(others, 1):
        host.create_endpoint(f"/{name}", name, "public")
        if number % PUBLISH_BATCH == 0:
            options.progress(f"created endpoint {number}/{len(others)}")
    # An endpoint created last is seen last. It is not called yet: an unknown route and a wrong method differ.
    wait_until_routed(host, routes[-1])
    first_client = call_each(host, routes)
    entries = logged(host, set(others), len(others))
    with_all_called = host.memory()

    publish_ms = [entry["publish_ms"] for entry in published]
    first_ms = [entry["duration_us"] / 1e3 for entry in entries]
    grown = max(with_all["rss"], with_all_called["rss"]) - with_one["rss"]
    disk_each = (disk_after - disk_before) / len(others)
    numbers = f"{options.scripts:,}"
    return {
        "scripts": options.scripts,
        "publish_ms": spread(publish_ms),
        "first_call_ms": spread(first_ms),
        "first_call_as_seen_by_the_caller_ms": spread(first_client),
        "later_call_ms": spread(warm),
        "later_call_as_seen_by_the_caller_ms": spread(warm_client),
        "first_call_dirty_pages": spread([entry["dirty_pages"] or 0 for entry in entries]),
        "memory": {"with_one": with_one, "all_published": with_all, "all_called_once": with_all_called},
        "image_bytes": spread([entry.get("image_bytes") or 0 for entry in published]),
        "disk_bytes_per_script": disk_each,
        "checks": [
            check("start of a host that has started before", host.start_seconds, START_SECONDS_MAX, unit=" s"),
            check("publish: 50 lines, median", statistics.median(publish_ms), PUBLISH_MS_MAX, unit=" ms"),
            check("first call: median in the host", statistics.median(first_ms), FIRST_CALL_MS_MAX, unit=" ms"),
            check(f"idle: RSS of {numbers} scripts - of one", grown / 2**20, IDLE_BYTES_MAX / 2**20, unit=" MiB"),
            check("idle: disk per script", disk_each / 1024, DISK_BYTES_PER_SCRIPT_MAX / 1024, unit=" KiB"),
        ],
    }


def wait_until_routed(host, route):
    """Until the host knows the endpoint, without running its script: POST then gets a 405 instead of a 404."""
    parts = urlsplit(host.base)
    deadline = time.monotonic() + servers.ANSWER_SECONDS
    while True:
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=servers.ANSWER_SECONDS)
        connection.request("POST", parts.path + route)
        status = connection.getresponse().status
        connection.close()
        if status == 405:
            return
        if status != 404 or time.monotonic() > deadline:
            raise BenchError(f"POST {route} answered {status}, not 405")
        time.sleep(0.05)


def spread(values):
    ordered = sorted(values)
    return {
        "median": statistics.median(ordered),
        "p99": ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)],
        "max": ordered[-1],
        "n": len(ordered),
    }
