"""Fernet: encrypted and authenticated messages (https://github.com/fernet/spec/blob/master/Spec.md)."""

import base64
import binascii
import hashlib
import hmac
import os
import time
from collections.abc import Iterable

from wit_world.imports import crypto

from cryptography.hazmat._host import call, to_bytes

__all__ = ["Fernet", "InvalidToken", "MultiFernet"]

# How far in the future a token may have been made: clocks differ.
_MAX_CLOCK_SKEW = 60
_VERSION = 0x80
_BLOCK = 16


class InvalidToken(Exception):
    """A token that this key did not make, that was changed, or that is too old."""


class Fernet:
    """Encrypts and decrypts with one key."""

    def __init__(self, key: bytes | str, backend: object = None) -> None:
        try:
            decoded = base64.urlsafe_b64decode(key)
        except (binascii.Error, ValueError) as error:
            raise ValueError("Fernet key must be 32 url-safe base64-encoded bytes.") from error
        if len(decoded) != 32:
            raise ValueError("Fernet key must be 32 url-safe base64-encoded bytes.")
        self._signing_key, self._encryption_key = decoded[:16], decoded[16:]

    @classmethod
    def generate_key(cls) -> bytes:
        """A new key."""
        return base64.urlsafe_b64encode(os.urandom(32))

    def encrypt(self, data: bytes) -> bytes:
        """A token that holds the data."""
        return self.encrypt_at_time(data, int(time.time()))

    def encrypt_at_time(self, data: bytes, current_time: int) -> bytes:
        """A token as if made at this time."""
        return self._encrypt(to_bytes("data", data), current_time, os.urandom(16))

    def _encrypt(self, data: bytes, current_time: int, iv: bytes) -> bytes:
        missing = _BLOCK - len(data) % _BLOCK
        ciphertext = call(crypto.aes_cbc_encrypt, self._encryption_key, iv, data + bytes([missing]) * missing)
        signed = bytes([_VERSION]) + current_time.to_bytes(8) + iv + ciphertext
        return base64.urlsafe_b64encode(signed + self._mac(signed))

    def decrypt(self, token: bytes | str, ttl: int | None = None) -> bytes:
        """The data in the token, which may be `ttl` seconds old; InvalidToken if it is not genuine."""
        timestamp, data = _unpack(token)
        if ttl is not None:
            self._check_age(timestamp, ttl, int(time.time()))
        return self._open(data)

    def decrypt_at_time(self, token: bytes | str, ttl: int, current_time: int) -> bytes:
        """As `decrypt`, as if it were this time."""
        if ttl is None:
            raise ValueError("decrypt_at_time() can only be used with a non-None ttl")
        timestamp, data = _unpack(token)
        self._check_age(timestamp, ttl, current_time)
        return self._open(data)

    def extract_timestamp(self, token: bytes | str) -> int:
        """When a genuine token was made."""
        timestamp, data = _unpack(token)
        self._verify(data)
        return timestamp

    @staticmethod
    def _check_age(timestamp: int, ttl: int, now: int) -> None:
        if timestamp + ttl < now or now + _MAX_CLOCK_SKEW < timestamp:
            raise InvalidToken

    def _mac(self, signed: bytes) -> bytes:
        return hmac.digest(self._signing_key, signed, hashlib.sha256)

    def _verify(self, data: bytes) -> None:
        if len(data) < 32 or not hmac.compare_digest(self._mac(data[:-32]), data[-32:]):
            raise InvalidToken

    def _open(self, data: bytes) -> bytes:
        self._verify(data)
        iv, ciphertext = data[9:25], data[25:-32]
        try:
            padded = call(crypto.aes_cbc_decrypt, self._encryption_key, iv, ciphertext)
        except ValueError:
            raise InvalidToken from None
        missing = padded[-1] if padded else 0
        if not 1 <= missing <= _BLOCK or padded[-missing:] != bytes([missing]) * missing:
            raise InvalidToken
        return padded[:-missing]


class MultiFernet:
    """Encrypts with the first of several keys and decrypts with all, so that keys can be replaced one by one."""

    def __init__(self, fernets: Iterable[Fernet]) -> None:
        self._fernets = list(fernets)
        if not self._fernets:
            raise ValueError("MultiFernet requires at least one Fernet instance")

    def encrypt(self, msg: bytes) -> bytes:
        """A token of the first key."""
        return self.encrypt_at_time(msg, int(time.time()))

    def encrypt_at_time(self, msg: bytes, current_time: int) -> bytes:
        """A token of the first key, as if made at this time."""
        return self._fernets[0].encrypt_at_time(msg, current_time)

    def rotate(self, msg: bytes | str) -> bytes:
        """The token's data in a token of the first key, with the same time."""
        timestamp, data = _unpack(msg)
        plain = self._first(lambda fernet: fernet._open(data))
        return self._fernets[0]._encrypt(plain, timestamp, os.urandom(16))

    def decrypt(self, msg: bytes | str, ttl: int | None = None) -> bytes:
        """The data in the token of any of the keys."""
        return self._first(lambda fernet: fernet.decrypt(msg, ttl))

    def decrypt_at_time(self, msg: bytes | str, ttl: int, current_time: int) -> bytes:
        """As `decrypt`, as if it were this time."""
        return self._first(lambda fernet: fernet.decrypt_at_time(msg, ttl, current_time))

    def extract_timestamp(self, msg: bytes | str) -> int:
        """When a genuine token was made."""
        return self._first(lambda fernet: fernet.extract_timestamp(msg))

    def _first(self, attempt: object) -> object:
        for fernet in self._fernets:
            try:
                return attempt(fernet)
            except InvalidToken:
                continue
        raise InvalidToken


def _unpack(token: bytes | str) -> tuple[int, bytes]:
    if not isinstance(token, (str, bytes)):
        raise TypeError("token must be bytes or str")
    try:
        data = base64.urlsafe_b64decode(token)
    except (binascii.Error, ValueError):
        raise InvalidToken from None
    if len(data) < 9 or data[0] != _VERSION:
        raise InvalidToken
    return int.from_bytes(data[1:9]), data
