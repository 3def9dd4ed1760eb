"""PBKDF2."""

import hmac

from wit_world.imports import crypto

from cryptography.exceptions import AlreadyFinalized, InvalidKey
from cryptography.hazmat._host import call, hash_of, to_bytes


class PBKDF2HMAC:
    """Derives a key from a password, once."""

    def __init__(self, algorithm: object, length: int, salt: bytes, iterations: int, backend: object = None) -> None:
        self._parameters = hash_of(algorithm), to_bytes("salt", salt), iterations, length
        self._used = False

    def derive(self, key_material: bytes) -> bytes:
        """The key."""
        if self._used:
            raise AlreadyFinalized("PBKDF2 instances can only be used once.")
        self._used = True
        algorithm, salt, iterations, length = self._parameters
        return call(crypto.pbkdf2_hmac, algorithm, to_bytes("key_material", key_material), salt, iterations, length)

    def verify(self, key_material: bytes, expected_key: bytes) -> None:
        """Raises InvalidKey if the derived key is another one."""
        if not hmac.compare_digest(self.derive(key_material), expected_key):
            raise InvalidKey("Keys do not match.")
