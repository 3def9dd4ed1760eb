"""Certificates are not available."""

from typing import NoReturn

from cryptography.exceptions import UnsupportedAlgorithm


def _refuse(_data: bytes, _backend: object = None) -> NoReturn:
    raise UnsupportedAlgorithm("certificates cannot be read here; use the public key that is in the certificate")


load_der_x509_certificate = load_pem_x509_certificate = _refuse
