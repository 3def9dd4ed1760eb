"""For unit tests of handlers on your own machine; not part of the sandbox.

Example: `pq.testing.load("orders/handler.py").handler(pq.testing.request(path_params={"id": "7"}))`.
"""

import http.cookies
import importlib.util
import json as json_module
import marshal
import pathlib
import sys
import types
import urllib.parse

import pq
from pq import _request

_FORM = "application/x-www-form-urlencoded"


class _Streamlit:
    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *args, **_kwargs: print(*args)


def load(path: str) -> types.ModuleType:
    """The module of a script, a file or a folder with a `handler.py`, with the names that the sandbox gives it.

    Modules beside it can be imported from now on.
    """
    file = pathlib.Path(path)
    if file.is_dir():
        file /= "handler.py"
    spec = importlib.util.spec_from_file_location("handler", file)
    module = importlib.util.module_from_spec(spec)
    names = {"pq": pq, "Peliqan": pq, "st": _Streamlit(), "RUN_CONTEXT": "api_handler", "json": json_module}
    vars(module).update(names)
    folder = str(file.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    spec.loader.exec_module(module)
    return module


def request(
    method: str = "GET",
    path: str = "/",
    query_string: str = "",
    headers: dict[str, str] | None = None,
    body: str | bytes = b"",
    json: object = None,
    form: dict[str, str] | None = None,
    path_params: dict[str, str] | None = None,
    claims: dict | None = None,
    attributes: dict | None = None,
) -> dict:
    """The dict that a handler receives.

    `json` or `form` make a body and its content type, `claims` a token of the caller, `attributes` a consumer key.
    """
    fields = {name.title(): value for name, value in (headers or {}).items()}
    if json is not None:
        body = json_module.dumps(json)
        fields.setdefault("Content-Type", "application/json")
    elif form is not None:
        body = urllib.parse.urlencode(form)
        fields.setdefault("Content-Type", _FORM)
    body = body.encode() if isinstance(body, str) else bytes(body)
    fields = {"Host": "localhost", **fields}
    if body:
        fields.setdefault("Content-Length", str(len(body)))
    url = f"http://localhost/test{urllib.parse.quote(path)}" + (f"?{query_string}" if query_string else "")
    query = {name: values[0] for name, values in urllib.parse.parse_qs(query_string, keep_blank_values=True).items()}
    cookies = {name: cookie.value for name, cookie in http.cookies.SimpleCookie(fields.get("Cookie", "")).items()}
    is_token, is_key = claims is not None, attributes is not None
    auth = {
        "kind": "jwt" if is_token else "key" if is_key else "public",
        "token_id": "test" if is_token else None,
        "issuer": "pqhost" if is_token else None,
        "claims": claims or {},
        "key_id": "test" if is_key else None,
        "attributes": attributes or {},
        "methods": [],
    }
    where = (method, url, path, query_string, fields, form or {}, query, path_params or {}, {}, cookies)
    return _request.make(marshal.dumps((*where, "127.0.0.1", "test", auth, None)), body, [])
