"""Keys of Ed448 are not supported: the classes are here for libraries that ask whether a key is one, and none is."""


class Ed448PublicKey:
    """No key is one."""


class Ed448PrivateKey:
    """No key is one."""
