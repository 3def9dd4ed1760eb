from types import ModuleType
from typing import Any

def load(path: str) -> ModuleType: ...
def request(
    method: str = "GET",
    path: str = "/",
    query_string: str = "",
    headers: dict[str, str] | None = None,
    body: str | bytes = b"",
    json: Any = None,
    form: dict[str, str] | None = None,
    path_params: dict[str, str] | None = None,
    claims: dict[str, Any] | None = None,
) -> dict[str, Any]: ...
