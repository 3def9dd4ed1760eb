"""Puts load on one URL with wrk, and reads what came of it.

Owns: wrk's command line and results. Never: starts servers.
"""

import json
import shlex
import statistics
import subprocess
from pathlib import Path

SERVER_CORE = "0"
LOAD_CORE = "1"
CONNECTIONS = 32
# Enough for the peers' bytecode to specialise and for pools to fill.
WARM_UP_SECONDS = 2
# Above every latency worth reporting: wrk counts slower answers as errors.
TIMEOUT = "20s"

REPORT = Path(__file__).parent / "report.lua"


class BenchError(Exception):
    """Something that makes the numbers meaningless; told to the person who runs the benchmark."""


class Target:
    """One server's URL under load, and its rounds so far."""

    def __init__(self, name, server, url, token=None, body=None, connections=CONNECTIONS, paths=None):
        self.name = name
        self.server = server
        self.url = url
        self.token = token
        # JSON to POST; without it, requests are GETs.
        self.body = body
        self.connections = connections
        # A file of lines `PATH TOKEN`, which are asked for in turn.
        self.paths = paths
        self.rounds = []

    def command(self, seconds, token):
        command = ["taskset", "-c", LOAD_CORE, "wrk", "-t1", f"-c{self.connections}", f"-d{seconds}s", "--latency"]
        command += ["--timeout", TIMEOUT]
        if token:
            command += ["-H", f"Authorization: JWT {token}"]
        command += ["-s", str(REPORT), self.url]
        if self.paths:
            return [*command, "--", "paths", str(self.paths)]
        return [*command, "--", "post", self.body] if self.body else command

    def shown_command(self, seconds):
        """As it may be written to a file: without the token."""
        return shlex.join(self.command(seconds, self.token and "TOKEN"))

    def load(self, seconds):
        command = self.command(seconds, self.token)
        cpu_before = self.server.cpu_seconds()
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60)
        cpu_used = self.server.cpu_seconds() - cpu_before
        if done.returncode != 0:
            raise BenchError(f"wrk failed on {self.name}: {done.stderr.strip()}")
        result = json.loads(done.stdout.strip().splitlines()[-1])
        if any(result["errors"].values()):
            raise BenchError(f"{self.name} did not answer every request: {result}")
        return {**result, "cpu_us": cpu_used * 1e6}

    def measure(self, seconds):
        """A round."""
        result = self.load(seconds)
        if result["requests"] == 0:
            raise BenchError(f"{self.name} answered nothing within {seconds} s: give rounds more --seconds")
        result["requests_per_second"] = result["requests"] / (result["duration_us"] / 1e6)
        result["cpu_us_per_request"] = result["cpu_us"] / result["requests"]
        self.rounds.append(result)

    def median(self, key):
        return statistics.median(result[key] for result in self.rounds)

    def summary(self, seconds):
        return {
            "name": self.name,
            "command": self.shown_command(seconds),
            "requests_per_second": self.median("requests_per_second"),
            "cpu_us_per_request": self.median("cpu_us_per_request"),
            "p50_us": self.median("p50_us"),
            "p99_us": self.median("p99_us"),
            "rounds": self.rounds,
        }


def run_rounds(targets, rounds, seconds, progress):
    """A B C A B C ...: a slow minute of the machine hits all targets alike."""
    for target in targets:
        target.load(WARM_UP_SECONDS)
    for number in range(1, rounds + 1):
        for target in targets:
            target.measure(seconds)
            rate = target.rounds[-1]["requests_per_second"]
            progress(f"round {number}/{rounds}  {target.name}: {rate:,.0f}/s")


def ratio(one, other, key):
    """Median over rounds of one's value divided by the other's in the same round: neighbours share the machine."""
    pairs = zip(one.rounds, other.rounds, strict=True)
    return statistics.median(a[key] / b[key] for a, b in pairs)
