"""Keys on elliptic curves: P-256 and P-384."""

from wit_world.imports import crypto

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat._host import call, der, der_integer, der_sequence, read_der
from cryptography.hazmat.primitives.asymmetric._keys import PrivateKey, PublicKey


class EllipticCurve:
    """A curve."""

    name: str
    key_size: int


class SECP256R1(EllipticCurve):
    """P-256, of ES256."""

    name = "secp256r1"
    key_size = 256
    _oid = bytes.fromhex("06082a8648ce3d030107")


class SECP384R1(EllipticCurve):
    """P-384, of ES384."""

    name = "secp384r1"
    key_size = 384
    _oid = bytes.fromhex("06052b81040022")


class SECP521R1(EllipticCurve):
    """P-521, which is not supported: no key has it."""

    name = "secp521r1"
    key_size = 521


class SECP256K1(EllipticCurve):
    """A curve that is not supported: no key has it."""

    name = "secp256k1"
    key_size = 256


_CURVES = {crypto.KeyKind.P256: SECP256R1, crypto.KeyKind.P384: SECP384R1}
_ALGORITHM_OID = bytes.fromhex("06072a8648ce3d0201")


class ECDSA:
    """How signatures are made."""

    def __init__(self, algorithm: object) -> None:
        self._algorithm = algorithm

    @property
    def algorithm(self) -> object:
        """The hash."""
        return self._algorithm


def _oid(curve: EllipticCurve) -> bytes:
    oid = getattr(curve, "_oid", None)
    if oid is None:
        raise UnsupportedAlgorithm(f"the curve {curve.name} is not supported; P-256 and P-384 are")
    return oid


class EllipticCurvePublicNumbers:
    """A point of a curve."""

    def __init__(self, x: int, y: int, curve: EllipticCurve) -> None:
        self.x, self.y, self.curve = x, y, curve

    def public_key(self, backend: object = None) -> "EllipticCurvePublicKey":
        """The key with these numbers; ValueError if the point is not on the curve."""
        size = self.curve.key_size // 8
        point = b"\4" + self.x.to_bytes(size) + self.y.to_bytes(size)
        algorithm = der_sequence(_ALGORITHM_OID, _oid(self.curve))
        spki = der_sequence(algorithm, der(0x03, b"\0" + point))
        return EllipticCurvePublicKey(call(crypto.load_public_key, spki))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, EllipticCurvePublicNumbers) and (self.x, self.y, self.curve.name) == (
            other.x,
            other.y,
            other.curve.name,
        )

    def __hash__(self) -> int:
        return hash((self.x, self.y, self.curve.name))


class EllipticCurvePrivateNumbers:
    """A private number and its point."""

    def __init__(self, private_value: int, public_numbers: EllipticCurvePublicNumbers) -> None:
        self.private_value, self.public_numbers = private_value, public_numbers

    def private_key(self, backend: object = None) -> "EllipticCurvePrivateKey":
        """The key with these numbers."""
        curve = self.public_numbers.curve
        secret = der(0x04, self.private_value.to_bytes(curve.key_size // 8))
        sec1 = der_sequence(der_integer(1), secret)
        algorithm = der_sequence(_ALGORITHM_OID, _oid(curve))
        key = EllipticCurvePrivateKey(
            call(crypto.load_private_key, der_sequence(der_integer(0), algorithm, der(0x04, sec1)))
        )
        if key.public_key().public_numbers() != self.public_numbers:
            raise ValueError("Invalid EC key.")
        return key


class EllipticCurvePublicKey(PublicKey):
    """A public key."""

    @property
    def curve(self) -> EllipticCurve:
        """Its curve."""
        return _CURVES[self._host_key.kind]()

    @property
    def key_size(self) -> int:
        """Bits of the curve."""
        return self.curve.key_size

    def public_numbers(self) -> EllipticCurvePublicNumbers:
        """The point."""
        key = self._host_key
        return EllipticCurvePublicNumbers(int.from_bytes(key.first), int.from_bytes(key.second), self.curve)

    def verify(self, signature: bytes, data: bytes, signature_algorithm: ECDSA) -> None:
        """Raises InvalidSignature if the signature is not one of this key over the data."""
        self._verify(signature, data, crypto.Scheme.ECDSA, signature_algorithm.algorithm)


class EllipticCurvePrivateKey(PrivateKey):
    """A private key."""

    @property
    def curve(self) -> EllipticCurve:
        """Its curve."""
        return self.public_key().curve

    @property
    def key_size(self) -> int:
        """Bits of the curve."""
        return self.curve.key_size

    def public_key(self) -> EllipticCurvePublicKey:
        """The public half."""
        return EllipticCurvePublicKey(self._host_key.public)

    def private_numbers(self) -> EllipticCurvePrivateNumbers:
        """The private number and its point."""
        # PKCS#8: version, algorithm, and SEC1 in an octet string.
        content, _ = read_der(self._host_key.der, 0x30)
        for tag in (0x02, 0x30):
            _, content = read_der(content, tag)
        sec1, _ = read_der(content, 0x04)
        content, _ = read_der(sec1, 0x30)
        _, content = read_der(content, 0x02)
        secret, _ = read_der(content, 0x04)
        return EllipticCurvePrivateNumbers(int.from_bytes(secret), self.public_key().public_numbers())

    def sign(self, data: bytes, signature_algorithm: ECDSA) -> bytes:
        """A signature of the data, in DER."""
        return self._sign(data, crypto.Scheme.ECDSA, signature_algorithm.algorithm)
