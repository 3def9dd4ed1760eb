"""How RSA signatures are padded."""


class PKCS1v15:
    """The older padding, of RS256 and its like."""

    name = "EMSA-PKCS1-v1_5"


class MGF1:
    """The mask of PSS."""

    def __init__(self, algorithm: object) -> None:
        self._algorithm = algorithm


class PSS:
    """The newer padding, of PS256 and its like. The salt must be as long as the hash."""

    name = "EMSA-PSS"
    DIGEST_LENGTH = -1
    AUTO = -2
    MAX_LENGTH = -3

    def __init__(self, mgf: MGF1, salt_length: int) -> None:
        self._mgf = mgf
        self._salt_length = salt_length
