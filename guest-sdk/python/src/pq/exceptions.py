"""What `pq` raises."""


class PeliqanClientException(Exception):
    """An operation of `pq` failed.

    `message` is a sentence for the author of the script, `code` a stable name such as `ERROR_TABLE_DOES_NOT_EXIST`,
    `error_dict` more about it where there is more, and `error` a dict of the three.
    """

    def __init__(
        self,
        message: str,
        code: str | None = None,
        error_dict: dict | None = None,
        *_args: object,
        **_kwargs: object,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.error_dict = error_dict

    @property
    def error(self) -> dict:
        """Message, code and details."""
        return {"code": self.code, "message": self.message, "error_dict": self.error_dict}


class OperationNotSupported(PeliqanClientException):
    """This operation does not exist here; the message says why, or what to use."""

    def __init__(self, message: str, code: str | None = "ERROR_OPERATION_NOT_SUPPORTED", *args: object) -> None:
        super().__init__(message, code, *args)


class PeliqanJsonSerializerException(PeliqanClientException):
    """A value cannot be expressed in JSON."""
