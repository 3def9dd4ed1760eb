"""How keys are written."""

import base64
import enum


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
