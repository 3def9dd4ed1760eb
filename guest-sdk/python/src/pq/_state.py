"""What a script remembers between requests: one JSON value for each script."""

import json
from collections.abc import Callable
from typing import NoReturn

from pq._errors import invalid
from pq._host import Err
from pq._host import state as host
from pq.exceptions import PeliqanClientException, PeliqanJsonSerializerException

# How often `update_state` tries. Each failure means that another request has succeeded, and those that wait are served
# in order, so fewer than as many requests as run at once (64 by default) can be ahead.
_ATTEMPTS = 200

_CODES = {
    "UNKNOWN_SCRIPT": "ERROR_INTERFACE_DOES_NOT_EXIST",
    "TOO_LARGE": "ERROR_STATE_TOO_LARGE",
    "TOO_MANY_OPERATIONS": "ERROR_TOO_MANY_STATE_OPERATIONS",
    "UNAVAILABLE": "ERROR_STATE_UNAVAILABLE",
}


def get_state() -> object:
    """What this script has stored with `set_state`; None when it never did, or cleared it."""
    return _get(None)


def set_state(data: object) -> None:
    """Stores `data`, which JSON can express, in place of what was there; None clears it.

    It survives the request, new versions of the script, and restarts of the host. At most 1 MiB as JSON. The last of
    several writers wins: use `update_state` for a counter.
    """
    _set(None, data)


def get_interface_state(interface_id: int) -> object:
    """The state of another script of the same tenant, by its id (see `list_scripts()`)."""
    return _get(_script_id(interface_id))


def set_interface_state(interface_id: int, state: object) -> None:
    """Replaces the state of another script of the same tenant, by its id."""
    _set(_script_id(interface_id), state)


def update_state(fn: Callable[[object], object]) -> object:
    """Replaces the state by `fn(state)` and returns it; no update of another request is lost.

    `fn` gets what `get_state()` would give, and may run several times: if another request has written meanwhile, it
    runs again on what that one wrote. Raises ERROR_STATE_CONFLICT if that happens 200 times in a row; nothing is
    written then.
    """
    if not callable(fn):
        raise invalid(f"pq.update_state() needs a function from the old state to the new, not {fn!r:.80}")
    try:
        entry = host.get(None)
        for _ in range(_ATTEMPTS):
            new = fn(_loads(entry.value))
            entry = host.compare_and_set(entry.revision, _dumps(new))
            if entry is None:
                return new
    except Err as error:
        _fail(error)
    raise PeliqanClientException(
        f"other requests changed the state {_ATTEMPTS} times while this one tried; nothing was written, try again",
        "ERROR_STATE_CONFLICT",
    )


def _get(script_id: int | None) -> object:
    try:
        return _loads(host.get(script_id).value)
    except Err as error:
        _fail(error)


def _set(script_id: int | None, data: object) -> None:
    text = _dumps(data)
    try:
        host.set(script_id, text)
    except Err as error:
        _fail(error)


def _script_id(value: object) -> int:
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value)
    if type(value) is not int or not 0 <= value < 2**63:
        raise invalid(f"interface_id must be the id of a script, an int, not {value!r:.80}")
    return value


def _loads(text: str | None) -> object:
    return None if text is None else json.loads(text)


def _dumps(data: object) -> str | None:
    """JSON that reads back equal, or `PeliqanJsonSerializerException`."""
    if data is None:
        return None
    try:
        text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        if not text.isascii() and any(0xD800 <= ord(c) <= 0xDFFF for c in text):
            text = json.dumps(data, allow_nan=False, separators=(",", ":"))  # such characters exist only as escapes
    except (TypeError, ValueError, RecursionError) as error:
        raise PeliqanJsonSerializerException(
            f"the state must be of values that JSON can express (dict, list, str, int, float, bool, None): {error}",
            "ERROR_JSON_SERIALIZER",
        ) from None
    return text


def _fail(error: Err) -> NoReturn:
    failure = error.value
    raise PeliqanClientException(failure.message, _CODES.get(failure.code.name, "ERROR_UNKNOWN")) from None
