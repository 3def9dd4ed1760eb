"""`print` goes to the invocation's log, line by line, through an import of ours: no WASI stream is ever opened."""

import io
import sys

from wit_world.imports import log

# A line without an end is passed on in pieces of this many characters.
_PIECE_MAX = 8192


class _Stream(io.TextIOBase):
    encoding = "utf-8"
    errors = "backslashreplace"

    def __init__(self, source: object, name: str) -> None:
        self._source = source
        self._pending = ""
        self.name = name
        self.buffer = _Bytes(self)

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        pending = self._pending + text
        end = len(pending) if len(pending) > _PIECE_MAX else pending.rfind("\n") + 1
        if end:
            log.write(self._source, _unicode(pending[:end]))
        self._pending = pending[end:]
        return len(text)

    def flush(self) -> None:
        if self._pending:
            log.write(self._source, _unicode(self._pending))
            self._pending = ""

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return False

    def fileno(self) -> int:
        raise io.UnsupportedOperation("fileno")


class _Bytes(io.RawIOBase):
    """`sys.stdout.buffer`."""

    def __init__(self, stream: _Stream) -> None:
        self._stream = stream

    def write(self, data: bytes) -> int:
        self._stream.write(bytes(data).decode(errors="replace"))
        return len(data)

    def writable(self) -> bool:
        return True


def _unicode(text: str) -> str:
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()


def install() -> None:
    """Replaces stdin, stdout and stderr."""
    global _STDOUT, _STDERR
    _STDOUT = sys.stdout = sys.__stdout__ = _Stream(log.Source.STDOUT, "<stdout>")
    _STDERR = sys.stderr = sys.__stderr__ = _Stream(log.Source.STDERR, "<stderr>")
    sys.stdin = sys.__stdin__ = io.StringIO()


def flush() -> None:
    """Passes on lines that have no end yet."""
    if _STDOUT._pending:
        _STDOUT.flush()
    if _STDERR._pending:
        _STDERR.flush()


_STDOUT: _Stream
_STDERR: _Stream
