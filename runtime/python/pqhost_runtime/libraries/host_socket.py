"""What stands where HTTP libraries expect a socket: it takes one HTTP/1.1 request apart and has the host send it."""

import io

from componentize_py_types import Err
from wit_world.imports import http as host

from pqhost_runtime.libraries.tls import SSLError

_EXCEPTIONS = {
    "CONNECT_FAILED": ConnectionRefusedError,
    "CONNECT_TIMEOUT": TimeoutError,
    "READ_TIMEOUT": TimeoutError,
    "CONNECTION_BROKEN": ConnectionResetError,
    "NOT_ALLOWED": PermissionError,
    "TLS_FAILED": SSLError,
}


def error_from_host(error: object) -> OSError:
    """The exception for an `error` of the interface `http`; `host_code` is its code."""
    exception = _EXCEPTIONS.get(error.code.name, OSError)(error.message)
    exception.host_code = error.code.name
    return exception


def milliseconds(seconds: object) -> int | None:
    """A timeout as the host takes it; whatever is no number is the host's default."""
    if not isinstance(seconds, (int, float)):
        return None
    return max(1, min(int(seconds * 1000), 2**32 - 1))


class HostSocket:
    """Collects what a library sends. When the request is complete, the host sends it and this holds the response."""

    def __init__(self, scheme: str, host: str, port: int, timeout: object = None) -> None:
        authority = f"[{host}]" if ":" in host and not host.startswith("[") else host
        self._origin = f"{scheme}://{authority}:{port}"
        self._connect_timeout = self._timeout = timeout
        self._sent = []
        self._response = None

    def settimeout(self, timeout: object) -> None:
        """How long to wait for the response."""
        self._timeout = timeout

    def sendall(self, data: bytes) -> None:
        """Takes a piece of the request."""
        self._sent.append(bytes(data))

    def finish(self, even_if_incomplete: bool = False) -> None:
        """Has the host send the request if it is complete, so that what fails, fails where connecting would."""
        if self._response is not None:
            return
        request = b"".join(self._sent)
        self._sent = [request]
        head, end, body = request.partition(b"\r\n\r\n")
        if not end:
            if even_if_incomplete:
                raise ConnectionResetError("no request was sent")
            return
        method, target, fields = _parse_head(head)
        body, complete = _body(fields, body)
        if not complete and not even_if_incomplete:
            return
        if not target.startswith("/"):
            raise OSError("proxies are not supported: the host connects to servers itself")
        outgoing = host.Request(
            method,
            self._origin + target,
            fields,
            body,
            milliseconds(self._connect_timeout),
            milliseconds(self._timeout),
        )
        try:
            response = host.send(outgoing)
        except Err as error:
            raise error_from_host(error.value) from None
        self._response = _serialize(response, method)

    def makefile(self, _mode: str = "rb", _buffering: object = None) -> io.BytesIO:
        """The response."""
        self.finish(even_if_incomplete=True)
        return io.BytesIO(self._response)

    def setsockopt(self, *_args: object) -> None:
        """There is nothing to set."""

    def shutdown(self, _how: int) -> None:
        """There is nothing to shut down."""

    def close(self) -> None:
        """There is nothing to close."""


def _parse_head(head: bytes) -> tuple[str, str, list[tuple[str, str]]]:
    lines = head.decode("latin-1").replace("\r\n\t", " ").replace("\r\n ", " ").split("\r\n")
    method, target, _version = lines[0].split(" ", 2)
    fields = []
    for line in lines[1:]:
        name, _, value = line.partition(":")
        fields.append((name, value.strip(" \t")))
    return method, target, fields


def _body(fields: list[tuple[str, str]], body: bytes) -> tuple[bytes, bool]:
    """The body without its framing, and whether all of it is there."""
    framing = {name.lower(): value for name, value in fields}
    if "chunked" in framing.get("transfer-encoding", "").lower():
        return _dechunked(body)
    length = framing.get("content-length", "")
    return body, not length.isdigit() or len(body) >= int(length)


def _dechunked(body: bytes) -> tuple[bytes, bool]:
    content, at = [], 0
    while (end := body.find(b"\r\n", at)) >= 0:
        size = int(body[at:end], 16)
        if size == 0:
            return b"".join(content), True
        content.append(body[end + 2 : end + 2 + size])
        at = end + 2 + size + 2
    return b"".join(content), False


def _serialize(response: object, method: str) -> bytes:
    """The response as it would have come from a socket, with a body whose end is where the connection's is."""
    lines = [f"HTTP/1.1 {response.status} {response.reason}"]
    for name, value in response.headers:
        if name != "content-length" or method == "HEAD":
            lines.append(f"{name}: {value}")
    if method != "HEAD":
        lines.append(f"content-length: {len(response.body)}")
    lines.append("connection: close\r\n\r\n")
    return "\r\n".join(lines).encode("latin-1") + response.body
