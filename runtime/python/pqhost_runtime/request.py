"""The request as scripts see it: a dict, or the global object of the older generation of handlers."""

import json
from urllib.parse import parse_qsl


class Headers(dict):
    """Header fields: iterates Title-Case, looks up in any case. Repeated fields are joined with `, `."""

    __slots__ = ()

    def __missing__(self, name: str) -> str:
        if isinstance(name, str):
            title = name.title()
            if title != name:
                return self[title]
        raise KeyError(name)

    def __contains__(self, name: object) -> bool:
        return dict.__contains__(self, name) or (isinstance(name, str) and dict.__contains__(self, name.title()))

    def get(self, name: str, default: object = None) -> object:
        try:
            return self[name]
        except KeyError:
            return default


class LegacyRequest:
    """The global `request` of handlers that take no argument."""

    def __init__(self, fields: dict) -> None:
        self.method = fields["method"]
        self.url = fields["url"]
        self.path = fields["path"]
        self.query_string = fields["query_string"].encode(errors="surrogateescape")
        self.headers = fields["headers"]
        self.data = fields["data"]
        self.form = fields["form"]
        self.args = fields["query"]
        self.json = fields["json"]
        self._body = fields["body"]

    def get_data(self, as_text: bool = False) -> bytes | str:
        """The body."""
        return self.data if as_text else self._body

    def get_json(self, *_args: object, **_kwargs: object) -> object:
        """The parsed body, or None."""
        return self.json


def make(incoming: object) -> dict:
    """The dict that `handler(request)` receives."""
    headers = Headers()
    for name, value in incoming.headers:
        title = name.title()
        if title in headers:
            value = f"{headers[title]}{'; ' if title == 'Cookie' else ', '}{value}"
        headers[title] = value
    body = incoming.body
    query = incoming.query_string
    auth = incoming.auth
    cookie = headers.get("Cookie")
    return {
        "method": incoming.method,
        "url": incoming.url,
        "path": incoming.path,
        "query_string": query,
        "headers": headers,
        "data": body.decode(errors="surrogateescape") if body else "",
        "body": body,
        "form": _first_values(incoming.form) if incoming.form else {},
        "query": _first_values(parse_qsl(query, keep_blank_values=True)) if query else {},
        "json": _json(body, headers) if body else None,
        "path_params": dict(incoming.path_params),
        "files": {file.field: _file(file) for file in reversed(incoming.files)} if incoming.files else {},
        "cookies": _cookies(cookie) if cookie else {},
        "client_ip": incoming.client_ip,
        "request_id": incoming.request_id,
        "auth": {"kind": auth.kind, "token_id": auth.token_id, "claims": json.loads(auth.claims)},
    }


def _first_values(pairs: list[tuple[str, str]]) -> dict[str, str]:
    values: dict[str, str] = {}
    for name, value in pairs:
        values.setdefault(name, value)
    return values


def _json(body: bytes, headers: Headers) -> object:
    if "json" not in headers.get("Content-Type", "json"):
        return None
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _file(file: object) -> dict:
    return {"name": file.name, "content_type": file.content_type, "content": file.content}


def _cookies(text: str) -> dict[str, str]:
    pairs = (part.strip().partition("=") for part in text.split(";"))
    return {name: value.strip('"') for name, separator, value in pairs if separator}
