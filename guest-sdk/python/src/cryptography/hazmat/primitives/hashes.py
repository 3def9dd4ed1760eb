"""Hash algorithms."""

import hashlib

from cryptography.exceptions import AlreadyFinalized


class HashAlgorithm:
    """One algorithm."""

    name: str
    digest_size: int
    block_size: int


def _algorithm(class_name: str, name: str, digest_size: int, block_size: int) -> type:
    attributes = {
        "__doc__": f"{class_name}.",
        "__module__": __name__,
        "name": name,
        "digest_size": digest_size,
        "block_size": block_size,
    }
    return type(class_name, (HashAlgorithm,), attributes)


SHA1 = _algorithm("SHA1", "sha1", 20, 64)
SHA224 = _algorithm("SHA224", "sha224", 28, 64)
SHA256 = _algorithm("SHA256", "sha256", 32, 64)
SHA384 = _algorithm("SHA384", "sha384", 48, 128)
SHA512 = _algorithm("SHA512", "sha512", 64, 128)
MD5 = _algorithm("MD5", "md5", 16, 64)


class Hash:
    """A hash in the making."""

    def __init__(self, algorithm: HashAlgorithm, backend: object = None) -> None:
        self.algorithm = algorithm
        self._hash = hashlib.new(algorithm.name)

    def update(self, data: bytes) -> None:
        """Adds data."""
        if self._hash is None:
            raise AlreadyFinalized("Context was already finalized.")
        self._hash.update(data)

    def copy(self) -> "Hash":
        """A hash of the same data, to which other data can be added."""
        copy = Hash(self.algorithm)
        copy._hash = self._hash.copy()
        return copy

    def finalize(self) -> bytes:
        """The digest; afterwards the object is used up."""
        if self._hash is None:
            raise AlreadyFinalized("Context was already finalized.")
        digest, self._hash = self._hash.digest(), None
        return digest
