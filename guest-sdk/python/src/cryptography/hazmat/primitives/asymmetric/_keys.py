"""What keys of all kinds share."""

from wit_world.imports import crypto

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat._host import call, hash_of, to_bytes
from cryptography.hazmat.primitives import _serialization


class PublicKey:
    """A public key that the host has read."""

    def __init__(self, host_key: object) -> None:
        self._host_key = host_key

    def _verify(self, signature: bytes, data: bytes, scheme: object, algorithm: object) -> None:
        if not call(
            crypto.verify,
            self._host_key.der,
            scheme,
            hash_of(algorithm),
            to_bytes("data", data),
            to_bytes("signature", signature),
        ):
            raise InvalidSignature

    def public_bytes(self, encoding: object, format: object) -> bytes:
        """The key as PEM or DER; the format must be SubjectPublicKeyInfo."""
        if format is not _serialization.PublicFormat.SubjectPublicKeyInfo:
            raise ValueError("only PublicFormat.SubjectPublicKeyInfo is supported")
        return _serialization.encode(encoding, "PUBLIC KEY", self._host_key.der)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PublicKey):
            return NotImplemented
        return self._host_key.der == other._host_key.der

    def __hash__(self) -> int:
        return hash(self._host_key.der)


class PrivateKey:
    """A private key that the host has read."""

    def __init__(self, host_key: object) -> None:
        self._host_key = host_key

    def _sign(self, data: bytes, scheme: object, algorithm: object) -> bytes:
        return call(crypto.sign, self._host_key.der, scheme, hash_of(algorithm), to_bytes("data", data))

    def private_bytes(self, encoding: object, format: object, encryption_algorithm: object) -> bytes:
        """The key as PEM or DER; the format must be PKCS8, without encryption."""
        if format is not _serialization.PrivateFormat.PKCS8:
            raise ValueError("only PrivateFormat.PKCS8 is supported")
        if not isinstance(encryption_algorithm, _serialization.NoEncryption):
            raise ValueError("only NoEncryption() is supported")
        return _serialization.encode(encoding, "PRIVATE KEY", self._host_key.der)
