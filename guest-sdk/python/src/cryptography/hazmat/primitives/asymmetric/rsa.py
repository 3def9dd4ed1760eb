"""Keys of RSA."""

from math import gcd

from wit_world.imports import crypto

from cryptography.hazmat._host import call, der, der_integer, der_sequence, read_der
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric._keys import PrivateKey, PublicKey

# The algorithm identifier of RSA: its OID and NULL.
_ALGORITHM = bytes.fromhex("300d06092a864886f70d0101010500")


def _scheme(how: object) -> object:
    if isinstance(how, padding.PKCS1v15):
        return crypto.Scheme.RSA_PKCS1_V15
    if isinstance(how, padding.PSS):
        return crypto.Scheme.RSA_PSS
    raise TypeError("Expected PKCS1v15 or PSS padding.")


class RSAPublicNumbers:
    """Modulus and exponent."""

    def __init__(self, e: int, n: int) -> None:
        self.e, self.n = e, n

    def public_key(self, backend: object = None) -> "RSAPublicKey":
        """The key with these numbers."""
        pkcs1 = der_sequence(der_integer(self.n), der_integer(self.e))
        spki = der_sequence(_ALGORITHM, der(0x03, b"\0" + pkcs1))
        return RSAPublicKey(call(crypto.load_public_key, spki))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RSAPublicNumbers) and (self.e, self.n) == (other.e, other.n)

    def __hash__(self) -> int:
        return hash((self.e, self.n))


class RSAPrivateNumbers:
    """All numbers of a private key."""

    def __init__(
        self, p: int, q: int, d: int, dmp1: int, dmq1: int, iqmp: int, public_numbers: RSAPublicNumbers
    ) -> None:
        self.p, self.q, self.d, self.dmp1, self.dmq1, self.iqmp = p, q, d, dmp1, dmq1, iqmp
        self.public_numbers = public_numbers

    def private_key(self, backend: object = None) -> "RSAPrivateKey":
        """The key with these numbers."""
        public = self.public_numbers
        numbers = (0, public.n, public.e, self.d, self.p, self.q, self.dmp1, self.dmq1, self.iqmp)
        return RSAPrivateKey(call(crypto.load_private_key, der_sequence(*map(der_integer, numbers))))


class RSAPublicKey(PublicKey):
    """A public key."""

    @property
    def key_size(self) -> int:
        """Bits of the modulus."""
        return self.public_numbers().n.bit_length()

    def public_numbers(self) -> RSAPublicNumbers:
        """Modulus and exponent."""
        return RSAPublicNumbers(int.from_bytes(self._host_key.second), int.from_bytes(self._host_key.first))

    def verify(self, signature: bytes, data: bytes, padding: object, algorithm: object) -> None:
        """Raises InvalidSignature if the signature is not one of this key over the data."""
        self._verify(signature, data, _scheme(padding), algorithm)


class RSAPrivateKey(PrivateKey):
    """A private key."""

    @property
    def key_size(self) -> int:
        """Bits of the modulus."""
        return self.public_key().key_size

    def public_key(self) -> RSAPublicKey:
        """The public half."""
        return RSAPublicKey(self._host_key.public)

    def private_numbers(self) -> RSAPrivateNumbers:
        """All numbers."""
        # PKCS#8: version, algorithm, and PKCS#1 in an octet string.
        content, _ = read_der(self._host_key.der, 0x30)
        for tag in (0x02, 0x30):
            _, content = read_der(content, tag)
        pkcs1, _ = read_der(content, 0x04)
        content, _ = read_der(pkcs1, 0x30)
        numbers = []
        for _ in range(9):
            number, content = read_der(content, 0x02)
            numbers.append(int.from_bytes(number))
        _, n, e, d, p, q, dmp1, dmq1, iqmp = numbers
        return RSAPrivateNumbers(p, q, d, dmp1, dmq1, iqmp, RSAPublicNumbers(e, n))

    def sign(self, data: bytes, padding: object, algorithm: object) -> bytes:
        """A signature of the data."""
        return self._sign(data, _scheme(padding), algorithm)


def rsa_crt_iqmp(p: int, q: int) -> int:
    """The coefficient."""
    return pow(q, -1, p)


def rsa_crt_dmp1(private_exponent: int, p: int) -> int:
    """The exponent for p."""
    return private_exponent % (p - 1)


def rsa_crt_dmq1(private_exponent: int, q: int) -> int:
    """The exponent for q."""
    return private_exponent % (q - 1)


def rsa_recover_prime_factors(n: int, d: int, e: int) -> tuple[int, int]:
    """The primes, from the exponents (NIST SP 800-56B, appendix C)."""
    even = d * e - 1
    if even <= 0 or even % 2:
        raise ValueError("Unable to compute factors p and q from exponent d.")
    odd, twos = even, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for base in range(2, 200):
        power = pow(base, odd, n)
        for _ in range(twos):
            square = pow(power, 2, n)
            if square == 1 and power not in (1, n - 1):
                p = gcd(power + 1, n)
                return max(p, n // p), min(p, n // p)
            power = square
    raise ValueError("Unable to compute factors p and q from exponent d.")
