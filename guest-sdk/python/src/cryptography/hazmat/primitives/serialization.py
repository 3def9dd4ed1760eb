"""Reading and writing keys."""

import base64
import enum

from wit_world.imports import crypto

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat._host import call, to_bytes


class Encoding(enum.Enum):
    """How bytes are written."""

    PEM = "PEM"
    DER = "DER"


class PrivateFormat(enum.Enum):
    """The form of a private key."""

    PKCS8 = "PKCS8"
    TraditionalOpenSSL = "TraditionalOpenSSL"


class PublicFormat(enum.Enum):
    """The form of a public key."""

    SubjectPublicKeyInfo = "X.509 subjectPublicKeyInfo with PKCS#1"
    PKCS1 = "Raw PKCS#1"


class NoEncryption:
    """The key is written as it is."""


def encode(encoding: Encoding, label: str, der: bytes) -> bytes:
    """DER, or PEM with this label."""
    if encoding is Encoding.DER:
        return der
    text = base64.b64encode(der).decode()
    lines = [text[at : at + 64] for at in range(0, len(text), 64)]
    return "\n".join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", ""]).encode()


def _public(data: bytes) -> object:
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    key = call(crypto.load_public_key, data)
    return rsa.RSAPublicKey(key) if key.kind == crypto.KeyKind.RSA else ec.EllipticCurvePublicKey(key)


def _private(data: bytes, password: bytes | None) -> object:
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

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
