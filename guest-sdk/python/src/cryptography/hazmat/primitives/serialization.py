"""Reading and writing keys."""

from wit_world.imports import crypto

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat._host import call, to_bytes
from cryptography.hazmat.primitives._serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.hazmat.primitives.asymmetric import ec, rsa

__all__ = [
    "Encoding",
    "NoEncryption",
    "PrivateFormat",
    "PublicFormat",
    "load_der_private_key",
    "load_der_public_key",
    "load_pem_private_key",
    "load_pem_public_key",
    "load_ssh_public_key",
]


def _public(data: bytes) -> object:
    key = call(crypto.load_public_key, data)
    return rsa.RSAPublicKey(key) if key.kind == crypto.KeyKind.RSA else ec.EllipticCurvePublicKey(key)


def _private(data: bytes, password: bytes | None) -> object:
    if password is not None:
        raise UnsupportedAlgorithm("encrypted private keys are not supported: keep the key in a secret instead")
    key = call(crypto.load_private_key, data)
    return rsa.RSAPrivateKey(key) if key.public.kind == crypto.KeyKind.RSA else ec.EllipticCurvePrivateKey(key)


def load_pem_public_key(data: bytes, backend: object = None) -> object:
    """The public key in PEM."""
    data = to_bytes("data", data)
    if b"-----BEGIN " not in data or b"PRIVATE KEY-----" in data:
        raise ValueError("Unable to load PEM file: there is no public key in it")
    return _public(data)


def load_der_public_key(data: bytes, backend: object = None) -> object:
    """The public key in DER."""
    data = to_bytes("data", data)
    if not data.startswith(b"\x30"):
        raise ValueError("Could not deserialize key data: it is no DER")
    return _public(data)


def load_pem_private_key(data: bytes, password: bytes | None, backend: object = None) -> object:
    """The private key in PEM."""
    data = to_bytes("data", data)
    if b"PRIVATE KEY-----" not in data:
        raise ValueError("Unable to load PEM file: there is no private key in it")
    return _private(data, password)


def load_der_private_key(data: bytes, password: bytes | None, backend: object = None) -> object:
    """The private key in DER."""
    data = to_bytes("data", data)
    if not data.startswith(b"\x30"):
        raise ValueError("Could not deserialize key data: it is no DER")
    return _private(data, password)


def load_ssh_public_key(data: bytes, backend: object = None) -> object:
    """Not supported."""
    raise UnsupportedAlgorithm("keys of SSH are not supported; convert it: ssh-keygen -e -m PKCS8 -f KEY.pub")
