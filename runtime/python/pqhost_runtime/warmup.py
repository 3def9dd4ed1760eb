"""Makes the base image: imports, warm paths, free memory."""

import contextlib
import gc
import importlib
import io
import os
import pkgutil
import sys
import time
import warnings

from componentize_py_types import Err
from pq import _rows
from wit_world.imports import sql, types

from pqhost_runtime import loader

# Not importable here, or not meant to be imported.
_SKIPPED = {"antigravity", "idlelib", "lib2to3", "test", "this", "tkinter", "turtle", "turtledemo", "ensurepip", "venv", "__main__"}

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
    _import_stdlib()
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
        "POST", f"http://localhost/t/x?{query}", "/x", query, headers, body, [("a", "b")], files, [("id", "1")], "::1", "id", auth
    )


def _warm_rows() -> None:
    columns = [sql.Column("id", sql.ColumnKind.PLAIN), sql.Column("at", sql.ColumnKind.TIMESTAMP)]
    rows = _rows.Rows(sql.Opened(0, columns), None)
    rows._list = [{"id": 1, "at": "2024-01-01T00:00:00"}]
    [row["id"] for row in rows]
    _rows.Conversion.wanted(0, None, False, "UTC", False).apply(rows._list, columns)


def _forget_script() -> None:
    import linecache

    from pqhost_runtime.failures import AUTHOR_FILES

    AUTHOR_FILES.clear()
    linecache.clearcache()
    del sys.modules["handler"], loader.SCRIPT.handler
    loader.SCRIPT.legacy_namespace = None


def _import_stdlib() -> None:
    """Imports everything importable, so that `import` in a handler finds it done."""
    output = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        warnings.simplefilter("ignore")
        for name in sorted(sys.stdlib_module_names - _SKIPPED):
            _import(name)
            module = sys.modules.get(name)
            for submodule in pkgutil.iter_modules(getattr(module, "__path__", ())):
                if submodule.name not in ("__main__", "test", "tests"):
                    _import(f"{name}.{submodule.name}")


def _import(name: str) -> None:
    with contextlib.suppress(Exception, SystemExit):
        importlib.import_module(name)
