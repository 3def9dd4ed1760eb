"""Makes the base image: warm paths, free memory."""

import contextlib
import gc
import linecache
import marshal
import os
import sys
import time

from componentize_py_types import Err
from pq import _rows
from pq._arguments import as_json
from wit_world.imports import sql

from pqhost_runtime import layout, loader, randomness
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


def run(world: object) -> bytes:
    """What `prime` does after stdio is in place; gives what `prime` gives."""
    time.time(), time.monotonic(), os.urandom(16)  # the WASI adapter keeps state of its own in memory
    world.load([_Source("warmup.py", _SCRIPT)], False)
    for _ in range(_ROUNDS):
        for query in ("", "dict", "text", "error"):
            world.handle(_request(query), b"", [])
        world.handle(_request("", {"f": ("a.txt", "text/plain")}), b'{"a": 1}', [b"x"])
        for query in ("raise", "bad"):
            with contextlib.suppress(Err):
                world.handle(_request(query), b"", [])
        _warm_rows()
    _forget_script()
    reference_counts = layout.reference_counts()
    gc.collect()
    layout.fill_holes(_HEADROOM_BYTES)
    gc.freeze()
    gc.disable()
    return reference_counts


class _Source:
    def __init__(self, name: str, content: bytes) -> None:
        self.name, self.content = name, content


def _request(kind: str, files: dict | None = None) -> bytes:
    """As the host sends it; see `wit/worlds.wit`."""
    headers = {"Host": "localhost", "User-Agent": "warm", "Content-Type": "application/json"}
    where = ("POST", f"http://localhost/t/x?{kind}", "/x", kind)
    fields = ({"a": "b"}, {"kind": kind}, {"id": "1"}, files or {}, {"a": "b"})
    return marshal.dumps((*where, headers, *fields, "::1", "id", "jwt", "id", {"sub": "x", "exp": 1}, ({"a": 1},)))


def _warm_rows() -> None:
    columns = [sql.Column("id", sql.ColumnKind.PLAIN), sql.Column("at", sql.ColumnKind.TIMESTAMP)]
    rows = _rows.Rows(sql.Opened(0, columns), None)
    rows._list = marshal.loads(marshal.dumps([{"id": 1, "at": "2024-01-01T00:00:00"}]))
    [row["id"] for row in rows]
    _rows.Conversion.wanted(0, None, False, "UTC", False).apply(rows._list, columns)
    as_json("the row", rows._list)


def _forget_script() -> None:
    AUTHOR_FILES.clear()
    linecache.clearcache()
    del sys.modules["handler"], loader.SCRIPT.handler
    loader.SCRIPT.legacy_namespace = None
    randomness.forget()
