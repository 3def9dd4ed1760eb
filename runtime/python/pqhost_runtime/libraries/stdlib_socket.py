"""Looking up names with `socket`: a sandbox has no network, and says so as a resolver does that finds nothing.

CPython's own functions would end the sandbox: they use a handle that the C library kept from the component's build.
"""

import _socket
import socket

_REFUSAL = "the sandbox looks up no names; HTTP libraries work, because the host connects for them"


def _refuse(*_args: object, **_kwargs: object) -> None:
    raise socket.gaierror(socket.EAI_NONAME, _REFUSAL)


def install() -> None:
    """Replaces every function that looks up a name or an address."""
    for name in ("getaddrinfo", "getnameinfo", "gethostbyname", "gethostbyname_ex", "gethostbyaddr"):
        setattr(_socket, name, _refuse)
        if name != "getaddrinfo":  # of which `socket` has a wrapper
            setattr(socket, name, _refuse)
