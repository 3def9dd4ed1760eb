"""Measures pqhost against web frameworks of Python and Rust, side by side. `benches/README.md` says how to read it.

Owns: arguments, the order of the benchmarks, the table and the file of results. Never: measures (see `cases`).
"""

import argparse
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from importlib.metadata import distributions
from pathlib import Path

import cases
import rows
import servers
import tenants
from load import CONNECTIONS, LOAD_CORE, SERVER_CORE, BenchError

RESULTS = servers.HERE / "results"
BENCHMARKS = ("hello", "cached", "accounts", "wide", "touched", "insert", "memory", "publish", "tenants")
LOADED = ("hello", "cached", "accounts", "wide", "touched", "insert")
ON_TABLES = {"accounts", "wide", "touched", "insert", "memory"}
BESIDE_AXUM = {"wide", "insert"}
# What pqhost alone does.
WITHOUT_PEERS = {"memory", "publish", "tenants"}
# The log shows at most this many invocations, and first calls are read from it.
SCRIPTS_MAX = 1000
# Processes that compute before the run starts. More, and the numbers say more about them than about the servers.
LOAD_AVERAGE_MAX = 0.5


def parse_arguments():
    parser = argparse.ArgumentParser(prog="benches/run.sh", description=__doc__.splitlines()[0])
    parser.add_argument("--pqhost", type=Path, metavar="PATH", help="the program [run.sh: build it, --release]")
    parser.add_argument("--axum", type=Path, metavar="PATH", help="the peer in Rust [run.sh: build it, --release]")
    parser.add_argument(
        "--dev", action="store_true", help="build without --release: to try the harness, not to measure"
    )
    parser.add_argument("--peers-only", action="store_true", help="measure the peers alone")
    parser.add_argument("--only", default=",".join(BENCHMARKS), metavar="NAMES", help="of %(default)s")
    parser.add_argument("--rounds", type=positive, default=5, help="rounds of each benchmark under load [%(default)s]")
    parser.add_argument("--seconds", type=positive, default=5, help="length of one measurement [%(default)s]")
    parser.add_argument("--scripts", type=positive, default=SCRIPTS_MAX, help="idle scripts [%(default)s]")
    parser.add_argument("--tenants", type=positive, default=10_000, help="tenants of a large host [%(default)s]")
    parser.add_argument("--postgres", default="postgres://postgres@127.0.0.1:5432/test", metavar="URL")
    parser.add_argument("--strict", action="store_true", help="exit with 1 when a promise is not kept")
    options = parser.parse_args()
    options.only = options.only.split(",")
    if unknown := set(options.only) - set(BENCHMARKS):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))} (there are {', '.join(BENCHMARKS)})")
    if not 2 <= options.scripts <= SCRIPTS_MAX:
        parser.error(f"--scripts must be 2 to {SCRIPTS_MAX}")
    if not options.peers_only:
        if options.pqhost is None:
            parser.error("--pqhost PATH is needed (run.sh gives it), or --peers-only")
        if not os.access(options.pqhost, os.X_OK):
            parser.error(f"`{options.pqhost}` is not a program")
        options.pqhost = options.pqhost.resolve()
    elif set(options.only) <= WITHOUT_PEERS:
        parser.error(f"the peers have nothing like {' and '.join(options.only)}")
    if BESIDE_AXUM & set(options.only):
        if options.axum is None or not os.access(options.axum, os.X_OK):
            parser.error("--axum PATH of a program is needed (run.sh gives it)")
        options.axum = options.axum.resolve()
    options.progress = lambda text: print(f"  {text}", file=sys.stderr)
    return options


def positive(text):
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"`{text}` is not at least 1")
    return number


def machine():
    cpu = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.split(":", 1)[1].strip()
            break
    memory_kib = int(Path("/proc/meminfo").read_text().split()[1])
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "memory_gib": round(memory_kib / 2**20, 1),
        "kernel": platform.release(),
        "load_average": os.getloadavg(),
    }


def versions(options):
    library = next((servers.VENV.parent / "lib").glob("python3*")) / "site-packages"
    peers = ("asyncpg", "fastapi", "flask", "gunicorn", "httptools", "pydantic", "starlette", "uvicorn", "uvloop")
    found = {package.name.lower(): package.version for package in distributions(path=[str(library)])}
    shown = {name: found[name] for name in peers}
    shown["python"] = output_of([servers.VENV / "python", "-c", "import platform; print(platform.python_version())"])
    shown["wrk"] = output_of(["wrk", "--version"]).split(" [")[0]
    if options.pqhost and not options.peers_only:
        shown["pqhost"] = output_of([options.pqhost, "--version"])
    revision = output_of(["git", "-C", servers.HERE, "describe", "--always", "--dirty"])
    return {**shown, "revision": revision}


def output_of(command):
    # wrk --version exits with 1.
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    return (done.stdout.strip().splitlines() or ["unknown"])[0]


def measure(options, work):
    """Runs the benchmarks that were asked for; gives their results by name."""
    results = {}
    data = work / "data"
    asked = set(options.only)
    if asked - {"publish", "tenants"}:
        with ExitStack() as running:
            measure_requests(options, running, data, results)
    if "publish" in asked and not options.peers_only:
        options.progress("publish")
        # A host of its own: memory that load left free would hide what scripts cost.
        with started_before(options, data) as host:
            results["publish"] = cases.publish(host.wait(), options)
    if "tenants" in asked and not options.peers_only:
        options.progress("tenants")
        results["tenants"] = tenants.tenants(options)
    return results


def started_before(options, data):
    """A host that does not compile the runtime: memory that a compiler left free would hide what a host holds."""
    if not data.exists():
        with servers.Pqhost(options.pqhost, data, options.work) as host:
            host.wait()
    return servers.Pqhost(options.pqhost, data, options.work)


def measure_requests(options, running, data, results):
    """Runs all benchmarks but publish on servers that `running` stops."""
    asked, work = set(options.only), options.work
    results["commands"] = commands = {}

    def start(server, **how):
        commands[server.name] = server.shown_command()
        return running.enter_context(server).wait(**how)

    def run(name, benchmark, *arguments):
        if name in asked:
            options.progress(name)
            results[name] = benchmark(*arguments, options)

    tables = running.enter_context(rows.Tables(options.postgres)) if ON_TABLES & asked else None
    fastapi = start(servers.fastapi(work, tables and tables.env))
    flask = start(servers.flask(work)) if "hello" in asked else None
    axum = start(servers.axum(options.axum, work, tables.env), path="/wide") if BESIDE_AXUM & asked else None
    host = None if options.peers_only else start(started_before(options, data))
    run("hello", cases.hello, host, fastapi, flask)
    run("cached", cases.cached, host, fastapi)
    if tables:
        results["postgresql"] = tables.server_version
        reading = host and rows.Host(host, tables, options)
        if reading:
            # Before load has left anything with the allocator.
            run("memory", rows.memory, reading)
        run("accounts", rows.accounts, reading, fastapi)
        run("wide", rows.wide, reading, fastapi, axum)
        run("touched", rows.touched, reading, fastapi)
        run("insert", rows.insert, reading, fastapi, axum)


def print_table(report):
    loaded = [target | {"benchmark": name} for name in LOADED if name in report for target in report[name]["targets"]]
    if loaded:
        print(f"\n{'benchmark':<10} {'server':<34} {'requests/s':>11} {'CPU us':>8} {'p50 ms':>8} {'p99 ms':>8}")
    for target in loaded:
        rate, p50, p99 = target["requests_per_second"], target["p50_us"] / 1e3, target["p99_us"] / 1e3
        cpu = target["cpu_us_per_request"]
        print(f"{target['benchmark']:<10} {target['name']:<34} {rate:>11,.0f} {cpu:>8.0f} {p50:>8.2f} {p99:>8.2f}")
    if parts := report.get("touched", {}).get("parts_us"):
        print("\ntouched, one request alone: " + ", ".join(f"{name} {us / 1e3:.2f} ms" for name, us in parts.items()))
    if "memory" in report:
        print()
        for key in ("10,000 rows", "1,000,000 rows"):
            streamed = report["memory"][key]
            seconds, peak = streamed["seconds"], streamed["peak_rss"] / 2**20
            print(f"peak RSS, {key:<16} {peak:>8.1f} MiB, {streamed['bytes'] / 2**20:.1f} MiB in {seconds:.1f} s")
    if "publish" in report:
        publish = report["publish"]
        print(f"\n{publish['scripts']:,} scripts {'median':>25} {'p99':>9} {'max':>9}")
        for key in ("publish_ms", "first_call_ms", "first_call_as_seen_by_the_caller_ms", "later_call_ms"):
            spread = publish[key]
            label = key.removesuffix("_ms").replace("_", " ") + ", ms"
            print(f"{label:<38} {spread['median']:>8.2f} {spread['p99']:>9.2f} {spread['max']:>9.2f}")
        for key, memory in publish["memory"].items():
            rss, kept = memory["rss"] / 2**20, memory["unreclaimable"] / 2**20
            mappings = memory["mappings"]
            print(f"RSS, {key.replace('_', ' '):<20} {rss:>8.1f} MiB, {kept:.1f} without files; {mappings:,} mappings")
    if "tenants" in report:
        large = report["tenants"]
        print(f"\n{large['tenants']:,} tenants {'median':>25} {'p99':>9} {'max':>9}")
        rows_shown = {f"{name}, ms": spread for name, spread in large["lists_ms"].items()}
        rows_shown |= {f"publish beside {name}, ms": spread for name, spread in large["publish_ms"].items()}
        for label, spread in rows_shown.items():
            print(f"{label:<38} {spread['median']:>8.2f} {spread['p99']:>9.2f} {spread['max']:>9.2f}")
        for name, seconds in large["start_seconds"].items():
            print(f"start of {name}, s {seconds:>31.2f}")
        for key, memory in large["memory"].items():
            print(
                f"RSS, {key:<20} {memory['rss'] / 2**20:>8.1f} MiB, {memory['unreclaimable'] / 2**20:.1f} without files"
            )
    checks = [check for name in BENCHMARKS if name in report for check in report[name]["checks"]]
    if checks:
        print()
    for check in checks:
        verdict = "PASS" if check["passed"] else "FAIL"
        sign = ">=" if check["at_least"] else "<="
        bound = f"({sign} {check['bound']:g}{check['unit']})"
        print(f"{verdict}  {check['name']:<44} {check['value']:>8.2f}{check['unit']}  {bound}")
    return all(check["passed"] for check in checks)


def main():
    options = parse_arguments()
    # So that servers stop and the schema is dropped whichever way the run ends.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if not {int(SERVER_CORE), int(LOAD_CORE)} <= os.sched_getaffinity(0):
        sys.exit("error: this needs cores 0 and 1, one for the server and one for the load")
    RESULTS.mkdir(exist_ok=True)
    # Below the repository, as /tmp may be memory: files there would count as resident.
    options.work = work = Path(tempfile.mkdtemp(prefix="work-", dir=RESULTS))
    report = {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": machine(),
        "versions": versions(options),
    }
    if (busy := report["machine"]["load_average"][0]) > LOAD_AVERAGE_MAX:
        options.progress(f"warning: the machine is busy (load average {busy:.1f}): only `CPU us` will be comparable")
    report["settings"] = {
        "rounds": options.rounds,
        "seconds": options.seconds,
        "connections": CONNECTIONS,
        "server_core": SERVER_CORE,
        "load_core": LOAD_CORE,
        "development_build": options.dev,
    }
    try:
        report |= measure(options, work)
    except BenchError as error:
        sys.exit(f"error: {error}\nlogs are kept in {work}")
    shutil.rmtree(work)
    report["machine"]["load_average_after"] = os.getloadavg()
    file = RESULTS / "latest.json"
    file.write_text(json.dumps(report, indent=2) + "\n")
    kept = print_table(report)
    print(f"\nwith the commands, versions and all rounds: {file}")
    if options.dev:
        print("this was a development build: the numbers of pqhost mean nothing")
    return 1 if options.strict and not kept else 0


if __name__ == "__main__":
    sys.exit(main())
