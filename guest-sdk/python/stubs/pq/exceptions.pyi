from typing import Any

class PeliqanClientException(Exception):
    message: str
    code: str | None
    error_dict: dict[str, Any] | None
    def __init__(
        self,
        message: str,
        code: str | None = None,
        error_dict: dict[str, Any] | None = None,
        *args: object,
        **kwargs: object,
    ) -> None: ...
    @property
    def error(self) -> dict[str, Any]: ...

class OperationNotSupported(PeliqanClientException): ...
class PeliqanJsonSerializerException(PeliqanClientException): ...
