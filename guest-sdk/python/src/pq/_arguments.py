"""Checks of what scripts pass, and its form for the host."""

import json.encoder

from pq._errors import from_host, invalid
from pq._host import Err
from pq._rows import Rows
from pq.exceptions import PeliqanJsonSerializerException


def call(function: object, *arguments: object) -> object:
    """Calls a function of the host; its error becomes an exception."""
    try:
        return function(*arguments)
    except Err as error:
        raise from_host(error.value) from None


def text(what: str, value: object, optional: bool = False) -> str | None:
    """A str that is valid Unicode; with `optional` also None."""
    if value is None and optional:
        return None
    if not isinstance(value, str):
        raise invalid(f"{what} must be a str, not {type(value).__name__}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise invalid(f"{what} holds characters that are not valid Unicode: {value!r:.80}") from None
    return value


def count(what: str, value: object) -> int | None:
    """An int of 0 or more, or None."""
    if value is None:
        return None
    if type(value) is not int or not 0 <= value < 2**63:
        raise invalid(f"{what} must be an int of 0 or more, not {value!r:.80}")
    return value


def names(what: str, value: object) -> list[str]:
    """A list of str; a single str stands for a list of one, None for none."""
    if value is None:
        return []
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, (list, tuple)):
        raise invalid(f"{what} must be a str or a list of str, not {type(value).__name__}")
    return [text(what, name) for name in value]


def as_json(what: str, value: object, types: tuple[type, ...] | None = None) -> str:
    """JSON text of a value of one of `types`."""
    if types is not None and not isinstance(value, types):
        raise invalid(f"{what} must be a {' or '.join(t.__name__ for t in types)}, not {type(value).__name__}")
    try:
        encoded = "".join(_encode(value, 0))
        if not encoded.isascii():
            encoded.encode()
    except (TypeError, ValueError, RecursionError) as error:
        message = f"{what} holds a value that cannot be passed on: {error}"
        raise PeliqanJsonSerializerException(message, "ERROR_INVALID_ARGUMENT") from None
    return encoded


def _beyond_json(value: object) -> object:
    """Values beyond JSON that databases know as text, and rows as a list."""
    if type(value) is Rows:
        return value.touch()
    import datetime
    import decimal
    import uuid

    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, (decimal.Decimal, uuid.UUID)):
        return str(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return f"\\x{bytes(value).hex()}"
    raise TypeError(f"{type(value).__name__} is not supported")


# What `json.dumps` makes anew for each value. What contains itself is found by its depth.
_encode = json.encoder.c_make_encoder(
    None, _beyond_json, json.encoder.encode_basestring, None, ":", ",", False, False, False
)
