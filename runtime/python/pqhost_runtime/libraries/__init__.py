"""Libraries that scripts expect, over what the host offers instead of sockets and OpenSSL.

Installed once, while the component is built. The libraries themselves are the real ones; only where they would open a
socket or call into C do they call the host.
"""

import warnings


def install() -> None:
    """Makes `http.client`, `urllib.request`, `urllib3`, `requests`, `jwt` and `cryptography` importable and working."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # requests warns that it cannot guess encodings; it falls back to UTF-8
        from pqhost_runtime.libraries import stdlib_hash, stdlib_http, stdlib_socket, third_party

        stdlib_hash.install()
        stdlib_http.install()
        stdlib_socket.install()
        third_party.install()
