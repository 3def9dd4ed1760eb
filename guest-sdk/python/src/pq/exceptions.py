"""What `pq` raises."""


class PeliqanClientException(Exception):
    """An operation of `pq` failed.

    `message` is a sentence for the author of the script, `code` a stable name such as `ERROR_TABLE_DOES_NOT_EXIST`, and
    `error` a dict with both.
    """

    def __init__(self, message: str, code: str | None = None, error_dict: dict | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.error = error_dict if error_dict is not None else {"message": message, "code": code}


class OperationNotSupported(PeliqanClientException):
    """This operation does not exist here; the message says why, or what to use."""

    def __init__(self, message: str) -> None:
        super().__init__(message, "ERROR_OPERATION_NOT_SUPPORTED")


class PeliqanJsonSerializerException(PeliqanClientException):
    """A value cannot be expressed in JSON."""
