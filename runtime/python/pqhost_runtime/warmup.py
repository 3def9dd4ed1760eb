"""Makes the base image: warm paths, free memory."""

import contextlib
import gc
import linecache
import os
import sys
import time

from componentize_py_types import Err
from pq import _rows
from wit_world.imports import sql, types

from pqhost_runtime import loader
from pqhost_runtime.failures import AUTHOR_FILES

# Free memory that the image holds; `HEADROOM_BYTES` in src/domain/limits.rs says the same to the host.
_HEADROOM_BYTES = 64 << 20

_ROUNDS = 40

_SCRIPT = b"""
from urllib.parse import parse_qs
def handler(request):
    import json
    kind = request['query'].get('kind')
    print(end='')
    if kind == 'raise':
        return {}['missing']
    if kind == 'error':
        raise pq.HTTPError(404, 'none')
    if kind == 'text':
        return f"{parse_qs(request['query_string'])}", 200, {'X-A': 'b'}
    if kind == 'bad':
        return object()
    return {'hello': request['path'], 'list': [1, 2.5, None, True, 'x'], 'json': json.loads('{"a": [1]}')}
"""


def run(world: object) -> None:
    """What `prime` does after stdio is in place."""
    time.time(), time.monotonic(), os.urandom(16)  # the WASI adapter keeps state of its own in memory
    file = types.File("f", "a.txt", "text/plain", b"x")
    world.load([_Source("warmup.py", _SCRIPT)], False)
    for _ in range(_ROUNDS):
        for query in ("", "kind=dict", "kind=text", "kind=error"):
            world.handle(_request(query, [], b""))
        world.handle(_request("", [file], b'{"a": 1}'))
        for query in ("kind=raise", "kind=bad"):
            with contextlib.suppress(Err):
                world.handle(_request(query, [], b""))
        _warm_rows()
    _forget_script()
    free = bytearray(_HEADROOM_BYTES)
    del free
    gc.collect()
    gc.freeze()
    gc.disable()


class _Source:
    def __init__(self, name: str, content: bytes) -> None:
        self.name, self.content = name, content


def _request(query: str, files: list, body: bytes) -> object:
    headers = [("host", "localhost"), ("user-agent", "warm"), ("content-type", "application/json"), ("cookie", "a=b")]
    auth = types.Caller("jwt", "id", '{"sub": "x", "exp": 1}')
    return types.Request(
        "POST",
        f"http://localhost/t/x?{query}",
        "/x",
        query,
        headers,
        body,
        [("a", "b")],
        files,
        [("id", "1")],
        "::1",
        "id",
        auth,
    )


def _warm_rows() -> None:
    columns = [sql.Column("id", sql.ColumnKind.PLAIN), sql.Column("at", sql.ColumnKind.TIMESTAMP)]
    rows = _rows.Rows(sql.Opened(0, columns), None)
    rows._list = [{"id": 1, "at": "2024-01-01T00:00:00"}]
    [row["id"] for row in rows]
    _rows.Conversion.wanted(0, None, False, "UTC", False).apply(rows._list, columns)


def _forget_script() -> None:
    AUTHOR_FILES.clear()
    linecache.clearcache()
    del sys.modules["handler"], loader.SCRIPT.handler
    loader.SCRIPT.legacy_namespace = None
