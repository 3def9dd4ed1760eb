"""A session with a host: what one invocation of a script is, for a program outside of the sandbox."""

import atexit
import contextlib
import http.client
import json
import os
import selectors
import ssl
import threading
import urllib.parse

from pq.exceptions import PeliqanClientException

# A call that is larger is not sent: the host would refuse it.
_CALL_BYTES_MAX = 21 << 20

# A host lets no call last longer than 300 seconds.
_ANSWER_SECONDS = 310

# An end that takes longer is left to the host, which ends idle sessions.
_GOODBYE_SECONDS = 2

_VARIABLES = {"url": "PQHOST_URL", "token": "PQHOST_TOKEN", "script": "PQHOST_SCRIPT"}

# What is bound to the session that began it, and what that session's end has done already.
_BOUND = {"next", "commit"}
_DONE_BY_ITS_END = {"close", "rollback"}


def configure(url: str | None = None, token: str | None = None, script: str | None = None) -> None:
    """Names the host's control address, an author's token, and the script (`tenant/script`) to be.

    What is left out is taken from the variables PQHOST_URL, PQHOST_TOKEN and PQHOST_SCRIPT. A session that is open
    ends, and the next call begins another one, whose limits count from zero.
    """
    with _LOCK:
        _SESSION.end()
        _SESSION.given = {"url": url, "token": token, "script": script}


def call(interface: str, function: str, arguments: list) -> dict:
    """Calls a function of the host: `{"ok": ...}` or `{"err": ...}`."""
    body = json.dumps({"interface": interface, "function": function, "arguments": arguments}, ensure_ascii=False)
    body = body.encode()
    if len(body) > _CALL_BYTES_MAX:
        message = f"the call has {len(body)} bytes; a host takes {_CALL_BYTES_MAX}"
        raise PeliqanClientException(message, "ERROR_INPUT_TOO_LARGE")
    with _LOCK:
        try:
            return _SESSION.call(body, _is_bound(function, arguments))
        except PeliqanClientException:
            if function in _DONE_BY_ITS_END:
                return {"ok": None}  # the error that led here is the one to be told
            raise


def _is_bound(function: str, arguments: list) -> bool:
    in_transaction = any(isinstance(part, dict) and part.get("transaction") is not None for part in arguments)
    return in_transaction or function in _BOUND or function in _DONE_BY_ITS_END


class Session:
    """The session of this process. It begins with the first call."""

    def __init__(self) -> None:
        self.given: dict[str, str | None] = {}
        self.forget()

    def forget(self) -> None:
        """Gives up what belongs to a session, without telling the host."""
        self._connection: http.client.HTTPConnection | None = None
        self._path: str | None = None
        self._fields: dict[str, str] = {}

    def call(self, body: bytes, is_bound: bool) -> dict:
        """Sends a call, in a new session if there is none or the last one is over."""
        while True:
            is_new = self._path is None
            if is_new and is_bound:
                raise PeliqanClientException(
                    "the session in which this began is over; its transactions are rolled back, its rows are gone",
                    "ERROR_SESSION_UNKNOWN",
                )
            if is_new:
                self._begin()
            status, answer = self._request("POST", f"{self._path}/calls", body)
            if status < 300:
                return answer
            if answer["code"] in ("session_unknown", "call_deadline"):
                self._path = None
            # A session that was idle has ended without anything lost, and the call has not taken place.
            if is_bound or is_new or answer["code"] != "session_unknown":
                raise _refused(answer)

    def end(self) -> None:
        """Ends the session, if there is one."""
        connection, path = self._connection, self._path
        if path is not None and connection is not None:
            connection.timeout = _GOODBYE_SECONDS
            if connection.sock is not None:
                connection.sock.settimeout(_GOODBYE_SECONDS)
            with contextlib.suppress(PeliqanClientException):  # otherwise it ends by itself
                self._request("DELETE", path, b"")
        if connection is not None:
            connection.close()
        self.forget()

    def _begin(self) -> None:
        url, token, script = (self._setting(name) for name in _VARIABLES)
        tenant, slash, name = script.partition("/")
        if not (tenant and slash and name) or "/" in name:
            raise _unusable(f"the script is named `tenant/script`, not {script!r:.80}")
        if not token.isascii() or not token.isprintable():
            raise _unusable("the token holds characters that no token has")
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise _unusable(f"the url is a host's control address, such as http://127.0.0.1:8081, not {url!r:.80}")
        if self._connection is None:
            self._connection = _connection(parts)
        self._fields = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        tenant, name = (urllib.parse.quote(part, safe="") for part in (tenant, name))
        sessions = f"{parts.path.rstrip('/')}/api/v1/tenants/{tenant}/scripts/{name}/sessions"
        status, answer = self._request("POST", sessions, b"")
        if status != 201:
            raise _refused(answer)
        self._path = f"{sessions}/{answer['session']}"

    def _setting(self, name: str) -> str:
        value = self.given.get(name) or os.environ.get(_VARIABLES[name])
        if not value:
            variables = ", ".join(_VARIABLES.values())
            raise _unusable(
                f"outside of the sandbox, `pq` needs a host: set {variables}, or call pq.configure(): no {name}"
            )
        return value

    def _request(self, method: str, path: str, body: bytes) -> tuple[int, dict]:
        """Sends a request once: nobody can tell what has become of one that got no answer."""
        connection = self._connection
        if connection.sock is not None and _has_news(connection.sock):
            connection.close()  # the host has closed it; the next request opens another
        if connection.sock is None:
            try:
                connection.connect()
            except OSError as error:
                message = f"nobody answers at {connection.host}:{connection.port}: {error}"
                raise PeliqanClientException(message, "ERROR_HOST_UNAVAILABLE") from error
        try:
            connection.request(method, path, body, self._fields)
            response = connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise PeliqanClientException(
                f"the host does not answer: {error or type(error).__name__}; what was asked may have been done or not",
                "ERROR_HOST_UNAVAILABLE",
            ) from error
        if not content and response.status < 300:
            return response.status, {}
        try:
            answer = json.loads(content)
            if response.status < 300 or {"code", "detail"} <= answer.keys():
                return response.status, answer
        except (ValueError, AttributeError):
            pass
        raise PeliqanClientException(
            f"what answered {response.status} {response.reason} is no pqhost: is the url that of the control address?",
            "ERROR_HOST_UNAVAILABLE",
        )


def _connection(parts: urllib.parse.SplitResult) -> http.client.HTTPConnection:
    try:
        port = parts.port
    except ValueError as error:
        raise _unusable(f"the url has no valid port: {error}") from None
    if parts.scheme == "http":
        return http.client.HTTPConnection(parts.hostname, port, timeout=_ANSWER_SECONDS)
    context = ssl.create_default_context()
    return http.client.HTTPSConnection(parts.hostname, port, timeout=_ANSWER_SECONDS, context=context)


def _has_news(connection: object) -> bool:
    """Whether the other side has sent something, which between two requests can only be its end."""
    with selectors.DefaultSelector() as selector:
        selector.register(connection, selectors.EVENT_READ)
        return bool(selector.select(0))


def _refused(problem: dict) -> PeliqanClientException:
    return PeliqanClientException(problem["detail"], f"ERROR_{problem['code'].upper()}")


def _unusable(message: str) -> PeliqanClientException:
    return PeliqanClientException(message, "ERROR_NOT_CONFIGURED")


_SESSION = Session()
_LOCK = threading.RLock()


def _after_fork() -> None:
    """A process has its own session: two cannot share a connection."""
    global _LOCK
    _LOCK = threading.RLock()
    _SESSION.forget()


atexit.register(_SESSION.end)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
