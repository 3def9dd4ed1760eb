"""Makes the base image: warm paths, free memory."""

import contextlib
import gc
import linecache
import marshal
import os
import sys
import time
from collections.abc import Iterator

import pq
from componentize_py_types import Err
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
    auth = {"kind": "jwt", "token_id": "id", "issuer": "pqhost", "claims": {"sub": "x", "exp": 1}}
    auth |= {"key_id": None, "attributes": {}, "methods": []}
    fields = ({"a": "b"}, {"kind": kind}, {"id": "1"}, files or {}, {"a": "b"})
    return marshal.dumps((*where, headers, *fields, "::1", "id", auth, ({"a": 1},)))


def _warm_rows() -> None:
    """Does what most handlers do with a database, which is answered here instead of by the host."""
    columns = [sql.Column("id", sql.ColumnKind.PLAIN), sql.Column("at", sql.ColumnKind.TIMESTAMP)]
    rows = [{"id": 1, "at": "2024-01-01T00:00:00"}, {"id": 2, "at": None}]
    batches = [b""]
    answers = {
        "fetch": lambda place, select: sql.Opened(0, columns),
        "next": lambda cursor: batches.pop(),
        "change": lambda place, table, action, key, values: marshal.dumps(rows),
        "close": lambda cursor: None,
    }
    with _answered(answers):
        connection = pq.dbconnect("x")
        for arguments in (
            {},
            {"enable_datetime_as_string": False},
            {"where": {"id": 1}, "order_by": "-id", "limit": 9},
        ):
            batches[:] = [b"", marshal.dumps(rows)]
            for row in connection.fetch("x", "s", "t", **arguments):
                row["id"]
        batches[:] = [b"", marshal.dumps([[1, "a"]])]
        connection.execute("x", "SELECT %s", params=[1])
        connection.insert("x", "s", "t", {"at": "é"})
        connection.insert("x", "s", "t", rows)
        connection.update("x", "s", "t", 1, at=None)
        connection.upsert("x", "s", "t", 1, {"at": 1.5})
        connection.delete("x", "s", "t", {"id": 1})


@contextlib.contextmanager
def _answered(answers: dict) -> Iterator[None]:
    """Replaces functions of the host for a while."""
    originals = {name: getattr(sql, name) for name in answers}
    for name, answer in answers.items():
        setattr(sql, name, answer)
    try:
        yield
    finally:
        for name, original in originals.items():
            setattr(sql, name, original)


def _forget_script() -> None:
    AUTHOR_FILES.clear()
    linecache.clearcache()
    del sys.modules["handler"], loader.SCRIPT.handler
    loader.SCRIPT.legacy_namespace = None
    randomness.forget()
