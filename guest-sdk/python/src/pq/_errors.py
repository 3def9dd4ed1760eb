"""Errors of the host as exceptions."""

from pq.exceptions import PeliqanClientException, PeliqanJsonSerializerException

_CODES = {
    "UNKNOWN_CONNECTION": "ERROR_CONNECTION_DOES_NOT_EXIST",
    "UNKNOWN_DATABASE": "ERROR_DATABASE_DOES_NOT_EXIST",
    "UNKNOWN_SCHEMA": "ERROR_SCHEMA_DOES_NOT_EXIST",
    "UNKNOWN_TABLE": "ERROR_TABLE_DOES_NOT_EXIST",
    "UNKNOWN_COLUMN": "ERROR_COLUMN_DOES_NOT_EXIST",
    "UNKNOWN_ROW": "ERROR_ROW_DOES_NOT_EXIST",
    "ALREADY_EXISTS": "ERROR_ALREADY_EXISTS",
    "CONSTRAINT_VIOLATED": "ERROR_CONSTRAINT_VIOLATED",
    "CONFLICT": "ERROR_CONFLICT",
    "TRANSACTION_OVER": "ERROR_TRANSACTION_OVER",
    "READ_ONLY": "ERROR_READ_ONLY",
    "INPUT_TOO_LARGE": "ERROR_INPUT_TOO_LARGE",
    "INVALID_ARGUMENT": "ERROR_INVALID_ARGUMENT",
    "STATEMENT_FAILED": "ERROR_STATEMENT_FAILED",
    "NOT_ALLOWED": "ERROR_NOT_ALLOWED",
    "UNSUPPORTED_TYPE": "ERROR_UNSUPPORTED_TYPE",
    "STATEMENT_TIMEOUT": "ERROR_STATEMENT_TIMEOUT",
    "RESULT_TOO_LARGE": "ERROR_RESULT_TOO_LARGE",
    "TOO_MANY_STATEMENTS": "ERROR_TOO_MANY_STATEMENTS",
    "UNAVAILABLE": "ERROR_DATABASE_UNAVAILABLE",
}


def from_host(error: object) -> PeliqanClientException:
    """The exception for an `error` of the interface `sql`."""
    if error.code.name == "UNSUPPORTED_VALUE":
        return PeliqanJsonSerializerException(error.message, "ERROR_INVALID_ARGUMENT")
    return PeliqanClientException(error.message, _CODES.get(error.code.name, "ERROR_UNKNOWN"))


def invalid(message: str) -> PeliqanClientException:
    """The exception for an argument that cannot be right."""
    return PeliqanClientException(message, "ERROR_INVALID_ARGUMENT")


class HTTPError(Exception):
    """Raise it to answer the request with `status` instead of a 500.

    The answer is a problem document (`application/problem+json`) with `status` and, as `detail`, the message.
    `status` is an int from 400 to 599; `headers` are added to the answer.
    """

    def __init__(self, status: int, message: str = "", headers: dict[str, str] | None = None) -> None:
        if type(status) is not int or not 400 <= status <= 599:
            raise ValueError(f"pq.HTTPError needs a status from 400 to 599, not {status!r}")
        super().__init__(status, message)
        self.status = status
        self.message = str(message)
        self.headers = dict(headers or {})
