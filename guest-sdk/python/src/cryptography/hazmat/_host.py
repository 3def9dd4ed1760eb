"""Calls of the host, and the little DER that goes with them."""

from componentize_py_types import Err
from wit_world.imports import crypto


def call(function: object, *args: object) -> object:
    """Calls the host. What it refuses is a ValueError, as in the package of this name."""
    try:
        return function(*args)
    except Err as error:
        raise ValueError(error.value.message) from None


def to_bytes(name: str, value: object) -> bytes:
    """The bytes of any object that has them."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    raise TypeError(f"{name} must be bytes-like, not {type(value).__name__}")


def hash_of(algorithm: object) -> object:
    """The host's hash for a hash object of `hazmat.primitives.hashes`."""
    return crypto.Hash[algorithm.name.upper().replace("-", "")]


def der(tag: int, content: bytes) -> bytes:
    """One element."""
    length = len(content)
    if length < 0x80:
        return bytes([tag, length]) + content
    size = (length.bit_length() + 7) // 8
    return bytes([tag, 0x80 | size]) + length.to_bytes(size) + content


def der_integer(value: int) -> bytes:
    """A non-negative integer."""
    return der(0x02, value.to_bytes(value.bit_length() // 8 + 1))


def der_sequence(*parts: bytes) -> bytes:
    """A sequence of elements."""
    return der(0x30, b"".join(parts))


def read_der(data: bytes, tag: int) -> tuple[bytes, bytes]:
    """The content of the first element, which has this tag, and what follows it."""
    if len(data) < 2 or data[0] != tag:
        raise ValueError("malformed DER")
    length, start = data[1], 2
    if length >= 0x80:
        size = length & 0x7F
        if not 1 <= size <= 3 or len(data) < 2 + size:
            raise ValueError("malformed DER")
        length, start = int.from_bytes(data[2 : 2 + size]), 2 + size
    if len(data) < start + length:
        raise ValueError("malformed DER")
    return data[start : start + length], data[start + length :]
