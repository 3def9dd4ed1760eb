"""HTTP APIs of the tenant, whose address and credentials stay in the host."""

import json
from urllib.parse import quote, urlencode

from pq._errors import invalid
from pq._host import Err, http
from pq.exceptions import PeliqanClientException

# What the script itself has wrong, as opposed to what went wrong on the way.
_RAISED = {
    "UNKNOWN_CONNECTION": "ERROR_CONNECTION_DOES_NOT_EXIST",
    "NOT_ALLOWED": "ERROR_NOT_ALLOWED",
    "INVALID_REQUEST": "ERROR_INVALID_ARGUMENT",
    "TOO_MANY_REQUESTS": "ERROR_TOO_MANY_REQUESTS",
    "REQUEST_TOO_LARGE": "ERROR_INVALID_ARGUMENT",
}


class Connector:
    """An HTTP API of the tenant, by name. Making one does no I/O: an unknown name fails at the first call.

    What the API answers with a status of 400 or more, or not at all, does not raise: the result is then
    `{"status": "error", "detail": {"code", "message", "status_code", "body"}}`.
    """

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def apicall(
        self,
        path: str,
        method: str = "get",
        body: object = None,
        *,
        params: object = None,
        headers: dict | None = None,
        timeout: float | tuple | None = None,
    ) -> object:
        """Calls `path` below the API's URL and gives the decoded JSON of its answer, or its text if it is no JSON.

        `body` is sent as JSON; a str or bytes as it is. `params` become the query string.
        """
        if not isinstance(path, str):
            raise invalid(f"path must be a str, not {type(path).__name__}")
        fields = {"accept": "application/json"}
        if body is None:
            content = b""
        elif isinstance(body, (bytes, bytearray)):
            content = bytes(body)
        elif isinstance(body, str):
            content = body.encode()
        else:
            fields["content-type"] = "application/json"
            try:
                content = json.dumps(body, default=str).encode()
            except (TypeError, ValueError, RecursionError) as error:
                raise invalid(f"body cannot be expressed in JSON: {error}") from None
        fields.update({name.lower(): str(value) for name, value in (headers or {}).items()})
        if params:
            path += ("&" if "?" in path else "?") + urlencode(params, doseq=True)
        connect, read = timeout if isinstance(timeout, tuple) else (timeout, timeout)
        request = http.Request(
            method.upper(), path, list(fields.items()), content, _milliseconds(connect), _milliseconds(read)
        )
        try:
            response = http.call(self._name, request)
        except Err as error:
            code, message = error.value.code.name, error.value.message
            if code in _RAISED:
                raise PeliqanClientException(message, _RAISED[code]) from None
            return _error(f"ERROR_{code}", message, None, None)
        answer = _decoded(response)
        if response.status >= 300:
            message = f"the API answered {response.status} {response.reason}".rstrip()
            return _error("ERROR_API", message, response.status, answer)
        return answer

    def get(self, object_name: str, id: object = None, **params: object) -> object:
        """One object: GET `object_name/id`."""
        return self.apicall(_path(object_name, id), params=params)

    def list(self, object_name: str, **params: object) -> object:
        """The objects of this name: GET `object_name`, with `params` as the query string."""
        return self.apicall(_path(object_name, None), params=params)

    def findone(self, object_name: str, **params: object) -> object:
        """The first of `list`, or None."""
        found = self.list(object_name, **params)
        if isinstance(found, list):
            return found[0] if found else None
        return found

    def add(self, object_name: str, *args: dict, **kwargs: object) -> dict:
        """Makes an object of a dict and keywords: POST `object_name`."""
        return self._write("post", _path(object_name, None), _fields(args, kwargs))

    def update(self, object_name: str, *args: dict, **kwargs: object) -> dict:
        """Changes the object whose `id` is among the fields: PATCH `object_name/id`."""
        return self._write("patch", *_with_id("update", object_name, _fields(args, kwargs)))

    def upsert(self, object_name: str, *args: dict, **kwargs: object) -> dict:
        """Makes or replaces the object whose `id` is among the fields: PUT `object_name/id`."""
        return self._write("put", *_with_id("upsert", object_name, _fields(args, kwargs)))

    def delete(self, object_name: str, id: object) -> dict:
        """Removes an object: DELETE `object_name/id`."""
        return self._write("delete", _path(object_name, id), None)

    def _write(self, method: str, path: str, body: object) -> dict:
        answer = self.apicall(path, method, body)
        if type(answer) is _Error:
            return answer
        return {"status": "success", "detail": answer}


class _Error(dict):
    """An error as a result, told apart from an answer that looks like one."""


def _error(code: str, message: str, status: int | None, body: object) -> _Error:
    detail = {"code": code, "message": message, "status_code": status, "body": body}
    return _Error(status="error", detail=detail)


def _decoded(response: object) -> object:
    if not response.body:
        return None
    try:
        return json.loads(response.body)
    except ValueError:
        return response.body.decode(errors="replace")


def _path(object_name: str, id: object) -> str:
    if not isinstance(object_name, str) or not object_name:
        raise invalid(f"object_name must be a str that is not empty, not {object_name!r:.80}")
    return object_name if id is None else f"{object_name}/{quote(str(id), safe='')}"


def _fields(args: tuple, kwargs: dict) -> dict:
    fields = {}
    for argument in args:
        if not isinstance(argument, dict):
            raise invalid(f"fields are given as a dict or as keywords, not as {type(argument).__name__}")
        fields.update(argument)
    fields.update(kwargs)
    return fields


def _with_id(what: str, object_name: str, fields: dict) -> tuple[str, dict]:
    if fields.get("id") is None:
        raise invalid(f"{what}() needs the object's `id` among its fields")
    return _path(object_name, fields["id"]), {name: value for name, value in fields.items() if name != "id"}


def _milliseconds(seconds: object) -> int | None:
    return None if seconds is None else max(1, min(int(seconds * 1000), 2**32 - 1))


def connect(connection: str | None = None) -> Connector:
    """The tenant's HTTP connection of this name."""
    if not connection or not isinstance(connection, str):
        raise invalid("pq.connect() needs the name of a connection, for example pq.connect('crm')")
    return Connector(connection)
