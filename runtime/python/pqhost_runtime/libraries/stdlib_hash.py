"""`hashlib.pbkdf2_hmac` and `hashlib.scrypt`, which CPython has only with OpenSSL, by the host."""

import hashlib

from componentize_py_types import Err
from wit_world.imports import crypto


def pbkdf2_hmac(hash_name: str, password: bytes, salt: bytes, iterations: int, dklen: int | None = None) -> bytes:
    """Derives a key from a password with PBKDF2."""
    if not isinstance(hash_name, str):
        raise TypeError("expected 'str' for name")
    name = hash_name.lower().replace("-", "")
    try:
        algorithm = crypto.Hash[name.upper()]
    except KeyError:
        raise ValueError(f"unsupported hash type {hash_name}: use sha1, sha224, sha256, sha384 or sha512") from None
    if iterations < 1:
        raise ValueError("iteration value must be greater than 0.")
    if dklen is None:
        dklen = hashlib.new(name).digest_size
    if dklen < 1:
        raise ValueError("key length must be greater than 0.")
    return _call(crypto.pbkdf2_hmac, algorithm, _bytes(password), _bytes(salt), _u32(iterations), _u32(dklen))


def scrypt(password: bytes, *, salt: bytes, n: int, r: int, p: int, maxmem: int = 0, dklen: int = 64) -> bytes:
    """Derives a key from a password with scrypt."""
    if n < 2 or n & (n - 1):
        raise ValueError("n must be a power of 2.")
    if not 0 <= maxmem < 2**31:
        raise ValueError(f"maxmem must be positive and smaller than {2**31 - 1}")
    return _call(crypto.scrypt, _bytes(password), _bytes(salt), _u32(n), _u32(r), _u32(p), _u32(dklen))


def _bytes(value: object) -> bytes:
    """A bytes-like object, and no number: `bytes(5)` would be five zeros."""
    return bytes(memoryview(value))


def _u32(value: int) -> int:
    if not 0 <= value < 2**32:
        raise OverflowError("value is too large")
    return value


def _call(function: object, *args: object) -> bytes:
    try:
        return function(*args)
    except Err as error:
        raise ValueError(error.value.message) from None


def install() -> None:
    """Adds both to `hashlib`."""
    hashlib.pbkdf2_hmac = pbkdf2_hmac
    hashlib.scrypt = scrypt
    hashlib.__all__ = (*hashlib.__all__, "pbkdf2_hmac", "scrypt")
