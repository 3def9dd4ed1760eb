"""Loads a script and calls its handler."""

import inspect
import json
import linecache
import sys
import types

import peliqan.exceptions  # noqa: F401  (imported here for scripts: later there is no file system)
import pq
from pq._request import LegacyRequest
from wit_world.imports import tracing

from pqhost_runtime import files as script_files
from pqhost_runtime import randomness
from pqhost_runtime.failures import AUTHOR_FILES, BadSource, NoHandler
from pqhost_runtime.response import BadReturn

_HOW = "define `def handler(request):` at the top level of the script"


class Script:
    """The script that is loaded."""

    __slots__ = ("handler", "legacy_namespace")

    def call(self, request: dict) -> object:
        """Runs the handler."""
        namespace = self.legacy_namespace
        if namespace is None:
            result = self.handler(request)
        else:
            namespace["request"] = LegacyRequest(request)
            result = self.handler()
        return _awaited(result) if type(result) is types.CoroutineType else result


SCRIPT = Script()


def _awaited(coroutine: object) -> object:
    """Runs an `async def handler`. There is no event loop: nothing in a sandbox can wait for several things at once."""
    try:
        coroutine.send(None)
    except StopIteration as result:
        return result.value
    coroutine.close()
    raise BadReturn("the async handler waits for an event loop, which the sandbox has not; use `def handler(request)`")


class _Streamlit:
    """`st`: whatever is called on it prints its arguments."""

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *args, **_kwargs: print(*args)


script_files.install()


def load(files: list, explain: bool) -> None:
    """Runs the script's main file, the first of `files`, and finds its handler."""
    sources = {file.name: file.content for file in files}
    own = [name for name in sources if not name.startswith(script_files.VENDORED)]
    AUTHOR_FILES.update(own)
    main = files[0].name
    sys.argv = [main]  # `argparse` and others take the program's name from it
    if len(files) > 1:
        _refuse_hidden_modules(own)
        script_files.FILES.replace(sources, _compile)
    module = types.ModuleType("handler")
    namespace = module.__dict__
    namespace.update(__file__=main, pq=pq, Peliqan=pq, st=_Streamlit(), RUN_CONTEXT="api_handler", json=json)
    sys.modules["handler"] = module
    code = _compile(main, sources[main])
    if explain:
        sys.settrace(_trace)
    try:
        exec(code, namespace)
    finally:
        if explain:
            sys.settrace(None)
    randomness.forget()
    SCRIPT.handler, SCRIPT.legacy_namespace = _find_handler(namespace)


def _refuse_hidden_modules(names: list[str]) -> None:
    """Raises if a module of the script cannot be imported, because one of Python's has its name."""
    for name in names:
        module = name.partition("/")[0].removesuffix(".py")
        if name.endswith(".py") and module in sys.modules:
            raise BadSource(f"{name} has the name of the module `{module}`, which is imported in its place; rename it")


def _compile(name: str, content: bytes) -> types.CodeType:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise BadSource(
            f"{name}, line {line}: byte {content[error.start]:#04x} is not UTF-8; save the file as UTF-8"
        ) from None
    if name in AUTHOR_FILES:
        linecache.cache[name] = (len(text), None, [f"{line}\n" for line in text.splitlines()], name)
    try:
        return compile(text, name, "exec", dont_inherit=True)
    except SyntaxError as error:
        error.of_script = True
        raise
    except (ValueError, RecursionError, MemoryError) as error:
        raise BadSource(f"{name} cannot be compiled: {error or type(error).__name__}") from None


def _find_handler(namespace: dict) -> tuple:
    handler = namespace.get("handler")
    if handler is None:
        raise NoHandler(f"the script has no `handler`; {_HOW}")
    if not callable(handler):
        raise NoHandler(f"`handler` is a {type(handler).__name__}, which cannot be called; {_HOW}")
    try:
        signature = inspect.signature(handler)
    except (TypeError, ValueError):
        return handler, None
    try:
        signature.bind(None)
    except TypeError:
        pass
    else:
        return handler, None
    try:
        signature.bind()
    except TypeError:
        raise NoHandler(f"`handler{signature}` cannot be called with one argument; {_HOW}") from None
    return handler, namespace


def _trace(frame: types.FrameType, event: str, _argument: object) -> object:
    """Tells the host each line of the author before it runs."""
    file = frame.f_code.co_filename
    if file not in AUTHOR_FILES:
        return None
    if event == "line":
        tracing.at(file, frame.f_lineno)
    return _trace
