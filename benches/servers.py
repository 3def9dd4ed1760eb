"""Starts and stops the servers under test, each on the same core.

Owns: processes, their command lines and readiness. Never: measures.
"""

import json
import os
import select
import shlex
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

from load import SERVER_CORE, BenchError

HERE = Path(__file__).parent
VENV = HERE / ".venv" / "bin"
# The first start of a development build compiles the runtime with an unoptimised compiler.
START_SECONDS = 900
STOP_SECONDS = 20
ANSWER_SECONDS = 15


def pinned(command):
    return ["taskset", "-c", SERVER_CORE, *command]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def fetch(url, token=None, body=None):
    """The answer to a GET, or to a POST of JSON."""
    headers = {"Authorization": f"JWT {token}"} if token else {}
    if body:
        body, headers["Content-Type"] = body.encode(), "application/json"
    request = urllib.request.Request(url, body, headers)
    with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as response:
        return response.read()


def wait_for(url, token=None, server=None, body=None):
    """Until the URL answers 2xx: a host sees what another process created within a second."""
    deadline = time.monotonic() + ANSWER_SECONDS
    while True:
        try:
            return fetch(url, token, body)
        except (urllib.error.URLError, ConnectionError) as error:
            if server is not None and server.process.poll() is not None:
                raise BenchError(f"{server.name} ended: see {server.log}") from error
            if time.monotonic() > deadline:
                detail = error.read().decode(errors="replace") if isinstance(error, urllib.error.HTTPError) else ""
                raise BenchError(f"{url} does not answer: {error} {detail}") from error
            time.sleep(0.05)


class Server:
    """A process on the server core. Its stderr goes to a file that outlives it only when the run fails."""

    def __init__(self, name, command, work, env=None, stdout=None):
        self.name = name
        self.command = pinned(command)
        self.log = work / f"{name}.log"
        self.started = time.monotonic()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, cwd=HERE / "peers", env={**os.environ, **(env or {})}, stdout=stdout or log, stderr=log
            )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def shown_command(self):
        return shlex.join(self.command)

    def cpu_seconds(self):
        """What the process and its children have computed so far: unlike requests/s, no busy neighbour changes it."""
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        ticks = 0
        for process in [pid, *children]:
            # The name of the program, in parentheses, may hold spaces.
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")


class Peer(Server):
    """What pqhost is compared with."""

    def __init__(self, name, port, words, work, env=None):
        self.url = f"http://127.0.0.1:{port}"
        super().__init__(name, [str(word) for word in words], work, env)

    def wait(self, path="/hello"):
        wait_for(f"{self.url}{path}", server=self)
        return self


def fastapi(work, env=None):
    port = free_port()
    words = [VENV / "uvicorn", "fastapi_app:app", "--port", port, "--workers", 1, "--loop", "uvloop"]
    return Peer(
        "fastapi", port, [*words, "--http", "httptools", "--no-access-log", "--log-level", "warning"], work, env
    )


def flask(work):
    port = free_port()
    words = [VENV / "gunicorn", "flask_app:app", "--bind", f"127.0.0.1:{port}", "--workers", 1]
    return Peer("flask", port, [*words, "--worker-class", "sync", "--log-level", "warning"], work)


def axum(binary, work, env):
    port = free_port()
    return Peer("axum", port, [binary, port], work, env)


class Pqhost(Server):
    """`pqhost demo` on a data directory, and the commands that work beside it."""

    TENANT = "demo"

    def __init__(self, binary, data, work):
        self.binary = binary
        self.data = data
        words = [binary, "demo", "--json", "--ingress", "127.0.0.1:0", "--control", "127.0.0.1:0", "--data", data]
        super().__init__("pqhost", [str(word) for word in words], work, stdout=subprocess.PIPE)

    def _announced(self):
        """What it says when it is ready."""
        ready, _, _ = select.select([self.process.stdout], [], [], START_SECONDS)
        line = self.process.stdout.readline() if ready else b""
        if not line:
            raise BenchError(f"{self.name} did not become ready: see {self.log}")
        self.start_seconds = time.monotonic() - self.started
        return json.loads(line)

    def wait(self):
        announced = self._announced()
        self.token = announced["token"]
        self.control = announced["control"]
        self.base = f"{announced['ingress']}/{self.TENANT}"
        return self

    def run(self, *words):
        """Runs a command on the host's data directory, on the server core; gives the objects that it prints."""
        command = pinned([str(self.binary), *map(str, words), "--json", "--data", str(self.data)])
        done = subprocess.run(command, capture_output=True, text=True, timeout=START_SECONDS)
        if done.returncode != 0:
            # The URL of a connection may hold a password: name the command only.
            raise BenchError(f"`pqhost {words[0]} {words[1]}` failed: {done.stdout.strip()} {done.stderr.strip()}")
        return [json.loads(line) for line in done.stdout.splitlines() if line.strip()]

    def publish(self, scripts):
        """Publishes files by script name; gives what was printed for each."""
        return self.run("script", "publish", self.TENANT, *(f"{name}={file}" for name, file in scripts.items()))

    def create_endpoint(self, route, script, auth, method="GET", settings=""):
        """`settings` is TOML."""
        file = self.log.with_name("settings.toml")
        file.write_text(settings)
        self.run("endpoint", "create", self.TENANT, method, route, script, "--auth", auth, "--settings", file)

    def memory(self):
        """Resident bytes, the part of them that the kernel cannot drop and read again, and the number of mappings."""
        rss, anonymous, shared = (self._memory_of(key) for key in ("VmRSS", "RssAnon", "RssShmem"))
        # A process may have 65,530 mappings by default (vm.max_map_count).
        mappings = Path(f"/proc/{self.process.pid}/maps").read_text().count("\n")
        return {"rss": rss, "unreclaimable": anonymous + shared, "mappings": mappings}

    def forget_peak_memory(self):
        """Lets the kernel find the peak anew."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def peak_memory(self):
        """The most bytes that were resident at once since then."""
        return self._memory_of("VmHWM")

    def _memory_of(self, key):
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        fields = dict(line.split(":", 1) for line in status.splitlines())
        return int(fields[key].split()[0]) * 1024


class Serving(Pqhost):
    """`pqhost serve` on a data directory that a demo has set up before."""

    def __init__(self, name, binary, data, work):
        self.binary = binary
        self.data = data
        words = [binary, "serve", "--json", "--ingress", "127.0.0.1:0", "--control", "127.0.0.1:0", "--data", data]
        Server.__init__(self, f"pqhost-{name}", [str(word) for word in words], work, stdout=subprocess.PIPE)

    def ready(self):
        """Waits here, so that of two hosts one after the other starts."""
        try:
            announced = self._announced()
            self.control, self.ingress = announced["control"], announced["ingress"]
        except BaseException:
            self.__exit__()
            raise
        return self
