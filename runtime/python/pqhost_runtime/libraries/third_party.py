"""`urllib3` and `requests` over the host, and the libraries that need nothing but to be imported."""

import contextlib
import importlib
import sys
from collections.abc import Iterator

# Besides what `jwt` imports.
_CRYPTOGRAPHY = [
    "cryptography.hazmat.primitives.constant_time",
    "cryptography.hazmat.primitives.kdf.pbkdf2",
    "cryptography.hazmat.primitives.kdf.scrypt",
]


def install() -> None:
    """Imports the libraries and puts the host where urllib3 would connect."""
    # Without `ssl`, urllib3 leaves out its own TLS, for which there is nothing to build on.
    ssl = sys.modules.pop("ssl")
    sys.modules["ssl"] = None
    try:
        _install_urllib3()
    finally:
        sys.modules["ssl"] = ssl
    _install_requests()
    for name in ("jwt", "cryptography.fernet", *_CRYPTOGRAPHY):
        importlib.import_module(name)


def _install_urllib3() -> None:
    import urllib3
    import urllib3.connection
    from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
    from urllib3.exceptions import ConnectTimeoutError, NewConnectionError, ReadTimeoutError, SSLError

    from pqhost_runtime.libraries.host_socket import HostSocket

    class HTTPConnection(urllib3.connection.HTTPConnection):
        """A connection that the host makes."""

        is_verified = True

        @contextlib.contextmanager
        def _explained(self) -> Iterator[None]:
            try:
                yield
            except OSError as error:
                code = getattr(error, "host_code", None)
                if code == "CONNECT_TIMEOUT":
                    raise ConnectTimeoutError(self, str(error)) from error
                if code in ("CONNECT_FAILED", "NOT_ALLOWED"):
                    raise NewConnectionError(self, str(error)) from error
                if code == "READ_TIMEOUT":
                    raise ReadTimeoutError(self, None, str(error)) from error
                if code == "TLS_FAILED":
                    raise SSLError(error) from error
                raise

        def _new_conn(self) -> HostSocket:
            return HostSocket(self._host_scheme, self.host, self.port, self.timeout)

        def request(self, *args: object, **kwargs: object) -> None:
            with self._explained():
                super().request(*args, **kwargs)

        def getresponse(self) -> object:
            with self._explained():
                return super().getresponse()

    class HTTPSConnection(HTTPConnection):
        """A TLS connection that the host makes. What would configure TLS here has no effect."""

        default_port = 443
        _host_scheme = "https"

        def __init__(self, host: str, port: int | None = None, **kwargs: object) -> None:
            known = ("timeout", "source_address", "blocksize", "socket_options", "proxy", "proxy_config")
            super().__init__(host, port, **{name: kwargs[name] for name in known if name in kwargs})

    HTTPConnectionPool.ConnectionCls = HTTPConnection
    HTTPSConnectionPool.ConnectionCls = HTTPSConnection
    urllib3.connection.HTTPConnection = HTTPConnection
    urllib3.connection.HTTPSConnection = urllib3.connection.VerifiedHTTPSConnection = HTTPSConnection


def _install_requests() -> None:
    import requests.adapters
    from requests.exceptions import SSLError

    def cert_verify(_self: object, _connection: object, _url: str, verify: object, cert: object) -> None:
        """The host verifies certificates against the public authorities, whatever `verify` says."""
        if isinstance(verify, str):
            raise SSLError("verify= with a file is not supported: the host verifies against the public authorities")
        if cert:
            raise SSLError("cert= is not supported: the host connects to servers and has no client certificates")

    requests.adapters.HTTPAdapter.cert_verify = cert_verify
    # As long as nobody changes them, the process has no environment and no files to take settings from.
    requests.Session().close()
