"""Comparing secrets."""

import hmac


def bytes_eq(a: bytes, b: bytes) -> bool:
    """Whether both are equal, in a time that does not depend on where they differ."""
    if not isinstance(a, bytes) or not isinstance(b, bytes):
        raise TypeError("a and b must be bytes.")
    return hmac.compare_digest(a, b)
