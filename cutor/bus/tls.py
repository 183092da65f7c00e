"""TLS: whom to trust, with which certificate to come, and what a failed handshake means in one line.

The server's host name is always compared with its certificate.
"""

from __future__ import annotations

import logging
import ssl
from pathlib import Path
from typing import Final

from cutor.bus.address import TlsFiles
from cutor.bus.errors import TlsFileInvalid

_WRONG_NAME: Final = frozenset({62, 64})
"""OpenSSL's X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH."""
_CLIENT_CERTIFICATE: Final = ("certificate required", "certificate_required", "bad certificate", "bad_certificate")
"""What a server's alert says to a client whose certificate is missing or not to be trusted."""
_NOISE: Final = "returning true from eof_received() has no effect when using ssl"
NO_TLS: Final = "the server does not offer TLS, which tls:// requires"


def client_context(files: TlsFiles) -> ssl.SSLContext:
    """The context of a connection: the system's CAs, or `tls_ca` alone. TlsFileInvalid names the file that cannot be used."""
    if (files.tls_cert is None) != (files.tls_key is None):
        raise TlsFileInvalid("tls_cert and tls_key belong together: name both, or neither")
    if files.tls_ca is not None:
        _check_readable("tls_ca", files.tls_ca)
    try:
        context = ssl.create_default_context(cafile=files.tls_ca)
    except (ssl.SSLError, OSError) as error:
        raise TlsFileInvalid(f"tls_ca: {files.tls_ca} holds no certificate: a CA's is wanted, in PEM") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    logging.getLogger("asyncio").addFilter(_is_no_noise)  # once, however often it is added
    if files.tls_cert is not None and files.tls_key is not None:
        _load_pair(context, files.tls_cert, files.tls_key)
    return context


def _is_no_noise(record: logging.LogRecord) -> bool:
    """Whether a line of asyncio's says anything: it has one for every connection with TLS that the client library closes."""
    return record.msg != _NOISE


def _load_pair(context: ssl.SSLContext, certificate: str, key: str) -> None:
    _check_readable("tls_cert", certificate)
    _check_readable("tls_key", key)

    def no_password() -> str:
        raise TlsFileInvalid(f"tls_key: {key} is locked with a password: a key without one is wanted")

    try:
        context.load_cert_chain(certificate, key, no_password)
    except ssl.SSLError as error:
        raise TlsFileInvalid(f"tls_cert, tls_key: {certificate} and {key} are no certificate and its key, in PEM") from error


def _check_readable(what: str, path: str) -> None:
    try:
        with Path(path).open("rb") as opened:
            opened.read(1)
    except OSError as error:
        raise TlsFileInvalid(f"{what}: {path} cannot be read: {error.strerror}") from error


def explain_tls(error: BaseException | None, address: str, *, own_ca: bool) -> str | None:
    """What a failed connection to `address` has to do with TLS, as one line with a remedy; None if it has nothing."""
    if isinstance(error, ssl.SSLCertVerificationError):
        said = " ".join(error.verify_message.split()).rstrip(".")
        if error.verify_code in _WRONG_NAME:
            return f"the certificate of NATS at {address} is for another host: {said}: use a name that is in it"
        remedy = "is `tls_ca` the CA of this server?" if own_ca else "name its CA with `server.tls_ca` or CUTOR_TLS_CA"
        return f"the certificate of NATS at {address} is not to be trusted: {said}: {remedy}"
    if NO_TLS in str(error):
        return f"NATS at {address} does not offer TLS, which tls:// requires: configure it there, or write nats://"
    if isinstance(error, ssl.SSLError):
        said = " ".join(str(error).lower().split())
        if any(alert in said for alert in _CLIENT_CERTIFICATE):
            return (
                f"NATS at {address} wants a client certificate that it trusts: name it with `server.tls_cert`, `server.tls_key`"
            )
        return f"no TLS with NATS at {address}: {error.reason or said}"
    return None
