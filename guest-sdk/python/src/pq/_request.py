"""The request as scripts see it: a dict, or the global object of the older generation of handlers."""

import json
import marshal


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


def make(incoming: bytes, body: bytes, files: list[bytes]) -> dict:
    """The dict that `handler(request)` receives, from what the host sends; see `wit/worlds.wit`."""
    (
        method,
        url,
        path,
        query_string,
        headers,
        form,
        query,
        path_params,
        uploads,
        cookies,
        client_ip,
        request_id,
        auth,
        read,
    ) = marshal.loads(incoming)
    headers = Headers(headers)
    data, parsed = "", None
    if body:
        data = body.decode(errors="surrogateescape")
        parsed = read[0] if read else _json(body, headers)
    if files:
        uploads = {field: _file(*uploads[field], content) for field, content in zip(uploads, files, strict=True)}
    return {
        "method": method,
        "url": url,
        "path": path,
        "query_string": query_string,
        "headers": headers,
        "data": data,
        "body": body,
        "form": form,
        "query": query,
        "json": parsed,
        "path_params": path_params,
        "files": uploads,
        "cookies": cookies,
        "client_ip": client_ip,
        "request_id": request_id,
        "auth": auth,
    }


def _json(body: bytes, headers: Headers) -> object:
    if "json" not in headers.get("Content-Type", "json"):
        return None
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _file(name: str, content_type: str, content: bytes) -> dict:
    return {"name": name, "content_type": content_type, "content": content}
