"""scrypt."""

import hmac

from wit_world.imports import crypto

from cryptography.exceptions import AlreadyFinalized, InvalidKey
from cryptography.hazmat._host import call, to_bytes


class Scrypt:
    """Derives a key from a password, once."""

    def __init__(self, salt: bytes, length: int, n: int, r: int, p: int, backend: object = None) -> None:
        self._parameters = to_bytes("salt", salt), n, r, p, length
        self._used = False

    def derive(self, key_material: bytes) -> bytes:
        """The key."""
        if self._used:
            raise AlreadyFinalized("Scrypt instances can only be used once.")
        self._used = True
        return call(crypto.scrypt, to_bytes("key_material", key_material), *self._parameters)

    def verify(self, key_material: bytes, expected_key: bytes) -> None:
        """Raises InvalidKey if the derived key is another one."""
        if not hmac.compare_digest(self.derive(key_material), expected_key):
            raise InvalidKey("Keys do not match.")
