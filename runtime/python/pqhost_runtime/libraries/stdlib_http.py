"""`http.client` and `urllib.request` over the host."""

import http.client
import sys
import urllib.request

from pqhost_runtime.libraries import tls
from pqhost_runtime.libraries.host_socket import HostSocket


def _connect(self: http.client.HTTPConnection) -> None:
    if self._tunnel_host:
        raise OSError("proxies are not supported: the host connects to servers itself")
    self.sock = HostSocket(self._host_scheme, self.host, self.port, self.timeout)


_plain_send_output = http.client.HTTPConnection._send_output


def _send_output(self: http.client.HTTPConnection, *args: object, **kwargs: object) -> None:
    _plain_send_output(self, *args, **kwargs)
    if isinstance(self.sock, HostSocket):
        self.sock.finish()


class HTTPSConnection(http.client.HTTPConnection):
    """HTTPS by the host, which verifies the server's certificate whatever `context` says."""

    default_port = 443
    _host_scheme = "https"

    def __init__(self, host: str, port: int | None = None, *, context: object = None, **kwargs: object) -> None:
        super().__init__(host, port, **kwargs)
        self._context = context


class HTTPSHandler(urllib.request.AbstractHTTPHandler):
    """Opens https URLs."""

    def __init__(self, debuglevel: int | None = None, context: object = None, check_hostname: object = None) -> None:
        super().__init__(debuglevel)
        self._context = context

    def https_open(self, request: urllib.request.Request) -> object:
        """Called by the opener."""
        return self.do_open(http.client.HTTPSConnection, request, context=self._context)

    https_request = urllib.request.AbstractHTTPHandler.do_request_


def install() -> None:
    """Puts the host where `http.client` would open a socket, and adds what is missing without OpenSSL."""
    connection = http.client.HTTPConnection
    connection._host_scheme = "http"
    connection.connect = _connect
    connection._send_output = _send_output
    http.client.HTTPSConnection = HTTPSConnection
    http.client.__all__.append("HTTPSConnection")
    urllib.request.HTTPSHandler = HTTPSHandler
    urllib.request.__all__.append("HTTPSHandler")
    sys.modules["ssl"] = tls.as_module()
