"""Signatures of ECDSA as numbers."""

from cryptography.hazmat._host import der_integer, der_sequence, read_der


def decode_dss_signature(signature: bytes) -> tuple[int, int]:
    """The two numbers of a signature in DER."""
    content, rest = read_der(signature, 0x30)
    r, content = read_der(content, 0x02)
    s, content = read_der(content, 0x02)
    if rest or content:
        raise ValueError("malformed signature")
    return int.from_bytes(r, signed=True), int.from_bytes(s, signed=True)


def encode_dss_signature(r: int, s: int) -> bytes:
    """A signature in DER."""
    return der_sequence(der_integer(r), der_integer(s))
