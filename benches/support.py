"""What benchmarks of a host share.

Owns: calls of its control API. Never: what is measured, or held against a promise.
"""

import http.client
import json
import time
from urllib.parse import urlsplit

import servers
from load import BenchError

# Entries of a page of a list, at most.
PAGE = 1000


class Api:
    """The control API of a host, over one connection that is kept open."""

    def __init__(self, host):
        (made,) = host.run("operator-token", "create", "--name", "benchmark")
        self.headers = {"Authorization": f"Bearer {made['token']}", "Content-Type": "application/json"}
        parts = urlsplit(host.control)
        self.connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=servers.ANSWER_SECONDS)

    def call(self, method, path, body=None):
        """The answer, and the milliseconds that it took."""
        text = None if body is None else json.dumps(body)
        start = time.perf_counter()
        self.connection.request(method, f"/api/v1{path}", text, self.headers)
        response = self.connection.getresponse()
        answer = response.read()
        took = (time.perf_counter() - start) * 1e3
        if response.status >= 300:
            raise BenchError(f"{method} {path} answered {response.status}: {answer[:300]}")
        return json.loads(answer), took

    def cursor_behind(self, path, entries):
        """Goes through a list until so many entries lie behind."""
        cursor = ""
        for _ in range(max(1, entries // PAGE)):
            page, _ = self.call("GET", f"{path}?limit={PAGE}{cursor}")
            if "next_cursor" not in page:
                break
            cursor = f"&cursor={page['next_cursor']}"
        return cursor
