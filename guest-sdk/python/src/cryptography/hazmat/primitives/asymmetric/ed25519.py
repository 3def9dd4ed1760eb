"""Keys of Ed25519 are not supported: the classes are here for libraries that ask whether a key is one, and none is."""


class Ed25519PublicKey:
    """No key is one."""


class Ed25519PrivateKey:
    """No key is one."""
