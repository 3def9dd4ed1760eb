"""Checks of what scripts pass, and its form for the host."""

import gc
import marshal

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


def values(what: str, value: object, types: tuple[type, ...] | None = None) -> bytes:
    """A value of one of `types` for the host, with all that it has: see `values` in `wit/sql.wit`."""
    if types is not None and not isinstance(value, types):
        raise invalid(f"{what} must be a {' or '.join(t.__name__ for t in types)}, not {type(value).__name__}")
    try:
        return marshal.dumps(value if _is_plain(value) else _plain(value), _VERSION)
    except TypeError as error:
        problem = str(error)
    except RecursionError:
        problem = "something that contains itself, or is nested too deeply"
    raise PeliqanJsonSerializerException(f"{what} holds {problem}; it cannot be passed on", "ERROR_INVALID_ARGUMENT")


# The newest version without references, which the host does not read.
_VERSION = 2

# The host reads 120 levels; this only ends what contains itself, of which `marshal` would write without end.
_LEVELS_MAX = 130

_CONTAINERS = {list, tuple, dict}
_KNOWN = {type(None), bool, int, float, str, bytes} | _CONTAINERS
_KEYS = {type(None), bool, int, float, str}
_BASES = ((str, str.__str__), (int, int.__int__), (float, float.__float__))


def _is_plain(value: object) -> bool:
    """Whether `marshal` knows all that is in the value.

    What it does not know but finds a buffer in, such as numpy's numbers, it would write as bytes.
    """
    level = [value]
    for _ in range(_LEVELS_MAX):
        kinds = set(map(type, level))
        if not kinds <= _KNOWN:
            return False
        if kinds.isdisjoint(_CONTAINERS):
            return True
        # All items at once, without a step of Python for each of them.
        level = gc.get_referents(*{id(item): item for item in level if type(item) in _CONTAINERS}.values())
    raise RecursionError


def _plain(value: object) -> object:
    """The value with what `marshal` does not know as tuples that begin with `...`."""
    kind = type(value)
    if kind is Rows:
        return value.touch()
    if isinstance(value, dict):
        return {_key(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if kind in _KNOWN:
        return value
    for base, convert in _BASES:
        if isinstance(value, base):  # an enum, for example
            return convert(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    import datetime
    import decimal
    import uuid

    if isinstance(value, (datetime.date, datetime.time)):
        return (..., "moment", value.isoformat())
    if isinstance(value, decimal.Decimal):
        return (..., "decimal", str(value))
    if isinstance(value, uuid.UUID):
        return str(value)
    raise TypeError(f"a value of the type {kind.__name__}")


def _key(key: object) -> object:
    """A key of a dict, of the types that `json` takes."""
    for base, convert in _BASES:
        if isinstance(key, base) and type(key) is not bool:
            return convert(key)
    if type(key) not in _KEYS:
        raise TypeError(f"a dict with a key of the type {type(key).__name__}")
    return key
