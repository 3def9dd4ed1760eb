"""What a handler returns, as a response."""

import base64
import dataclasses
import datetime
import decimal
import json
import math
import uuid

from pq import HTTPError, Rows
from wit_world.imports import types

JSON = [("content-type", "application/json")]
HTML = [("content-type", "text/html; charset=utf-8")]
BYTES = [("content-type", "application/octet-stream")]
PROBLEM = [("content-type", "application/problem+json")]

_ALLOWED = "a dict, a list, a str, bytes, None, or a tuple (body, status) or (body, status, headers)"


class BadReturn(Exception):
    """The handler returned something that is no response."""


def make(result: object) -> object:
    """The response for what a handler returned."""
    status, extra = None, None
    if type(result) is tuple:
        result, status, extra = _parts(result)
    body, defaults = _body(result)
    if status is None:
        status = 204 if result is None else 200
    return _respond(status, _headers(defaults, extra), body)


def make_for_http_error(error: BaseException) -> object | None:
    """The response for a raised `pq.HTTPError`; None for any other exception."""
    if not isinstance(error, HTTPError):
        return None
    try:
        problem = {"type": "about:blank", "status": error.status, "detail": str(error.message)}
        return _respond(error.status, _headers(PROBLEM, error.headers), _bytes(encode(problem)))
    except BaseException:
        return None


# The objects of the one response that a request gives: filling them in costs a third of making new ones.
_RESPONSE = types.Response(200, [], None)
_BYTES = types.Body_Bytes(b"")


def _respond(status: int, headers: list[tuple[str, str]], body: object) -> object:
    _RESPONSE.status = status
    _RESPONSE.headers = headers
    _RESPONSE.body = body
    return _RESPONSE


def _bytes(content: bytes) -> object:
    _BYTES.value = content
    return _BYTES


def _parts(result: tuple) -> tuple:
    if len(result) not in (2, 3):
        raise BadReturn(f"the handler returned a tuple of {len(result)} values; allowed is {_ALLOWED}")
    body, status, *extra = result
    if type(status) is not int or not 200 <= status <= 599:
        raise BadReturn(f"the status must be an int from 200 to 599, not {status!r:.80}")
    return body, status, extra[0] if extra else None


def _body(result: object) -> tuple:
    if type(result) is Rows:
        cursor = result.untouched_cursor()
        if cursor is not None:
            return types.Body_Rows(cursor), JSON
        result = result.touch()
    if isinstance(result, (dict, list)):
        return _bytes(encode(result)), JSON
    if isinstance(result, str):
        return _bytes(result.encode(errors="surrogateescape" if _has_escapes(result) else "replace")), HTML
    if isinstance(result, (bytes, bytearray, memoryview)):
        return _bytes(bytes(result)), BYTES
    if result is None:
        return _bytes(b""), []
    raise BadReturn(f"the handler returned {_article(type(result).__name__)}; allowed is {_ALLOWED}")


def _article(name: str) -> str:
    return f"an {name}" if name[:1].lower() in "aeiou" else f"a {name}"


def _has_escapes(text: str) -> bool:
    """Whether text holds bytes that `request['data']` could not decode, and nothing else that is not Unicode."""
    return not text.isascii() and all(not 0xD800 <= ord(c) <= 0xDFFF or 0xDC80 <= ord(c) <= 0xDCFF for c in text)


def _headers(defaults: list[tuple[str, str]], extra: object) -> list[tuple[str, str]]:
    if not extra:
        return defaults
    try:
        pairs = list(extra.items() if hasattr(extra, "items") else extra)
        given = [(name, value) for name, value in pairs]
    except (TypeError, ValueError):
        raise BadReturn("the headers must be a dict, or a list of (name, value)") from None
    headers = []
    for name, value in given:
        if isinstance(value, int):
            value = str(value)
        if not isinstance(name, str) or not isinstance(value, str):
            raise BadReturn(f"a header must be a str, not {name!r:.80}: {value!r:.80}")
        line = name + value
        if "\r" in line or "\n" in line or "\0" in line:
            raise BadReturn(f"header {name!r:.80} holds a line break or NUL")
        headers.append((name, value.encode(errors="replace").decode()))
    names = {name.lower() for name, _ in headers}
    return [default for default in defaults if default[0] not in names] + headers


def encode(value: object) -> bytes:
    """JSON in UTF-8, with what `_default` knows beyond JSON, null for NaN, and all digits of decimals."""
    try:
        # What UTF-8 has no bytes for is a lone surrogate in a string; with a backslash it is what JSON writes.
        return "".join(_json(value)).encode(errors="backslashreplace")
    except RecursionError:
        raise BadReturn("the handler returned a value that contains itself, or is nested too deeply for JSON") from None
    except ValueError as error:
        raise BadReturn(f"the handler returned a value that JSON cannot express: {error}") from None


def _json(value: object) -> list[str]:
    """JSON text, in pieces."""
    try:
        try:
            return _encode(value, 0)
        except _NeedsAllDigits:
            return _encode_all_digits(value, 0)
    except ValueError as error:
        if "not JSON compliant" not in str(error):
            raise
        return _encode_all_digits(_without_nan(value), 0)


class _NeedsAllDigits(Exception):
    """There is a decimal that no float is equal to."""


class _Digits(str):
    """A number of JSON."""

    __slots__ = ()


def _default(value: object) -> object:
    if isinstance(value, decimal.Decimal):
        number = _number(value)
        if type(number) is _Digits:
            raise _NeedsAllDigits
        return number
    return _exact_default(value)


def _exact_default(value: object) -> object:
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, decimal.Decimal):
        return _number(value)
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(value).decode()
    if isinstance(value, (set, frozenset)):
        return list(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    raise BadReturn(f"the handler returned a value that JSON cannot express: {_article(type(value).__name__)}")


def _number(value: decimal.Decimal) -> int | float | _Digits | None:
    """What JSON has for a decimal: an int or a float if it is equal."""
    if not value.is_finite():
        return None
    if value == value.to_integral_value():
        return int(value) if value.adjusted() < _INT_DIGITS else _Digits(value)
    number = float(value)
    return number if decimal.Decimal(repr(number)) == value else _Digits(value)


# A whole decimal of at most so many digits is an int, whatever its exponent is.
_INT_DIGITS = 40


def _string(text: str) -> str:
    return str.__str__(text) if type(text) is _Digits else _encode_string(text)


def _without_nan(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {_without_nan_key(key): _without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    if value is None or isinstance(value, (str, int)):
        return value
    return _without_nan(_exact_default(value))


def _without_nan_key(key: object) -> object:
    return str(key) if isinstance(key, float) and not math.isfinite(key) else key


_encode_string = json.encoder.encode_basestring
# What `json.JSONEncoder(...).encode` makes anew for each value. It does not keep track of the containers it is in:
# those that contain themselves are found by their depth.
_encode = json.encoder.c_make_encoder(None, _default, _encode_string, None, ":", ",", False, False, False)
# The same for decimals of any length. It calls `_string` for each string, where the other one stays in C.
_encode_all_digits = json.encoder.c_make_encoder(None, _exact_default, _string, None, ":", ",", False, False, False)
