"""What this package raises."""


class UnsupportedAlgorithm(Exception):
    """The algorithm or kind of key is not available here."""


class InvalidSignature(Exception):
    """A signature does not verify."""


class InvalidKey(Exception):
    """A derived key is not the expected one."""


class AlreadyFinalized(Exception):
    """The object was used up by an earlier call."""
