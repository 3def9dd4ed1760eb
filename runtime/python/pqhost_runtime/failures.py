"""Exceptions, told to the author: their file, their line, and what to do."""

import os
import traceback

import pq
from wit_world.imports import types

from pqhost_runtime.response import BadReturn

# Longest traceback, in characters; the middle of a longer one is left out.
_TRACEBACK_MAX = 16_000
_MESSAGE_MAX = 4_000
# Frames kept of a deep traceback.
_FRAMES_MAX = 60


class NoHandler(Exception):
    """The script defines nothing to call."""


class BadSource(Exception):
    """The source is no text of Python."""


def describe(error: BaseException) -> object:
    """The `script-error` for an exception. Never raises, whatever the exception's own methods do."""
    kind = types.Failure.RAISED
    if isinstance(error, MemoryError):
        kind = types.Failure.OUT_OF_MEMORY
    elif isinstance(error, SystemExit):
        kind = types.Failure.EXITED
    elif isinstance(error, BadReturn):
        kind = types.Failure.BAD_RETURN
    elif isinstance(error, NoHandler):
        kind = types.Failure.NO_HANDLER
    elif isinstance(error, BadSource) or _is_own_syntax_error(error):
        kind = types.Failure.SYNTAX
    name = _text(lambda: type(error).__name__, 200)
    message = _text(lambda: str(error), _MESSAGE_MAX)
    try:
        formatted, file, line = _format(error)
    except BaseException:
        formatted, file, line = f"{name}: {message}\n", None, None
    return types.ScriptError(kind, name, message, _text(lambda: formatted, _TRACEBACK_MAX), file, line)


def _is_own_syntax_error(error: BaseException) -> bool:
    """Whether the script itself does not compile, as opposed to something that it compiles."""
    return isinstance(error, SyntaxError) and getattr(error, "of_script", False) is True


def _text(get: object, length_max: int) -> str:
    try:
        text = get()
        if not isinstance(text, str):
            text = "<not a str>"
    except BaseException:
        text = "<the exception's text cannot be shown>"
    if len(text) > length_max:
        half = length_max // 2
        text = f"{text[:half]}\n  [... {len(text) - 2 * half} characters left out ...]\n{text[-half:]}"
    return text.encode(errors="backslashreplace").decode()


def _format(error: BaseException) -> tuple:
    summary = traceback.TracebackException(
        type(error), error, error.__traceback__, compact=True, limit=-_FRAMES_MAX * 4
    )
    seen: set[int] = set()
    chain = [summary]
    while chain:
        one = chain.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        one.stack[:] = [frame for frame in one.stack if not _is_internal(frame.filename)][-_FRAMES_MAX:]
        chain += [one.__cause__, one.__context__, *(one.exceptions or ())]
    file, line = None, None
    if isinstance(error, SyntaxError) and isinstance(error.filename, str) and isinstance(error.lineno, int):
        file, line = error.filename, error.lineno
    else:
        for frame in summary.stack:
            if frame.filename in AUTHOR_FILES:
                file, line = frame.filename, frame.lineno
    return "".join(summary.format()), file, line


def _is_internal(file: str) -> bool:
    return file not in AUTHOR_FILES and file.startswith(_INTERNAL_FOLDERS)


# Names of the script's own files.
AUTHOR_FILES: set[str] = set()
_INTERNAL_FOLDERS = tuple(f"{os.path.dirname(os.path.dirname(file))}/" for file in (__file__, pq.__file__))
