"""What scripts may import as `ssl`. TLS is the host's: it verifies certificates, and nothing here weakens that."""

import enum
import types


class SSLError(OSError):
    """TLS failed."""


class SSLCertVerificationError(SSLError, ValueError):
    """The server's certificate is not trusted."""


class Purpose(enum.Enum):
    """What a context is for."""

    SERVER_AUTH = 1
    CLIENT_AUTH = 2


class VerifyMode(enum.IntEnum):
    """How certificates are to be verified. The host verifies whatever this says."""

    CERT_NONE = 0
    CERT_OPTIONAL = 1
    CERT_REQUIRED = 2


class TLSVersion(enum.IntEnum):
    """Versions of TLS; the host speaks 1.2 and 1.3."""

    MINIMUM_SUPPORTED = -2
    MAXIMUM_SUPPORTED = -1
    TLSv1_2 = 771
    TLSv1_3 = 772


class SSLContext:
    """Settings that libraries pass around. What would change how the host connects is refused or without effect."""

    def __init__(self, protocol: object = None) -> None:
        self.protocol = protocol
        self.check_hostname = True
        self.verify_mode = VerifyMode.CERT_REQUIRED
        self.minimum_version = TLSVersion.TLSv1_2
        self.maximum_version = TLSVersion.TLSv1_3
        self.options = 0

    def load_default_certs(self, _purpose: object = None) -> None:
        """The host has its own certificates."""

    def set_ciphers(self, _ciphers: str) -> None:
        """The host chooses."""

    def set_alpn_protocols(self, _protocols: object) -> None:
        """The host chooses."""

    def load_verify_locations(self, *_args: object, **_kwargs: object) -> None:
        """There are no files to load from."""
        raise SSLError("own certificate authorities are not supported: the host verifies against the public ones")

    def load_cert_chain(self, *_args: object, **_kwargs: object) -> None:
        """There are no files to load from."""
        raise SSLError("client certificates are not supported: the host connects to servers itself")

    def wrap_socket(self, *_args: object, **_kwargs: object) -> None:
        """There are no sockets."""
        raise SSLError("scripts have no sockets; use requests, urllib.request or http.client")


def create_default_context(*_args: object, **_kwargs: object) -> SSLContext:
    """A context, for libraries that want one."""
    return SSLContext()


def as_module() -> types.ModuleType:
    """The module `ssl`."""
    module = types.ModuleType("ssl", __doc__)
    for value in (SSLError, SSLCertVerificationError, Purpose, VerifyMode, TLSVersion, SSLContext):
        setattr(module, value.__name__, value)
    module.CertificateError = SSLCertVerificationError
    module.create_default_context = create_default_context
    module._create_unverified_context = create_default_context
    module._create_default_https_context = create_default_context
    module.PROTOCOL_TLS = module.PROTOCOL_TLS_CLIENT = 16
    module.HAS_SNI = True
    for mode in VerifyMode:
        setattr(module, mode.name, mode)
    return module
