"""The address of a server, or of several of a cluster: `nats://user:password@host:port` or `tls://…`, commas between them.

Behind a question mark stand the files that TLS needs, for all of them: `?tls_ca=/etc/cutor/ca.pem`, `tls_cert`, `tls_key`. So
an address is all that anybody has to know to connect. Pure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from cutor.bus.errors import AddressInvalid

WANTED: Final = "write nats://user:password@host:port or tls://…"
INBOX: Final = "_INBOX"
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Paths of PEM files: the CA that is trusted instead of the system's, and the client's own certificate with its key."""

    tls_ca: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None


@dataclass(frozen=True, slots=True)
class Credential:
    """What a server is told about who connects: user and password, or a token, or nothing."""

    user: str | None = None
    password: str | None = None
    token: str | None = None

    @property
    def inbox_prefix(self) -> str:
        """Where this user's answers come to: of its own, so that permissions can keep users out of each other's."""
        return f"{INBOX}.{self.user}" if self.user is not None and _TOKEN.fullmatch(self.user) else INBOX


@dataclass(frozen=True, slots=True)
class Address:
    """An address, taken apart. `shown` has no credential: it may stand in a message or log."""

    servers: tuple[str, ...]
    shown: str
    tls: TlsFiles


def read_address(server_url: str) -> Address:
    """Take an address apart. AddressInvalid."""
    urls, _, parameters = server_url.partition("?")
    servers = tuple(url.strip() for url in urls.split(","))
    for url in servers:
        try:
            parts = urlsplit(url)
            valid = parts.scheme in {"nats", "tls"} and bool(parts.hostname) and parts.port != 0
        except ValueError:
            valid = False
        if not valid:
            raise AddressInvalid(f"the server's address is not valid: {WANTED}")
    return Address(servers, public_address(server_url), _tls_files(parameters))


def _tls_files(parameters: str) -> TlsFiles:
    found: dict[str, str] = {}
    for name, value in parse_qsl(parameters, keep_blank_values=True):
        if name not in TlsFiles.__slots__ or name in found:
            what = "is there twice" if name in found else f"is not known: {', '.join(TlsFiles.__slots__)} are"
            raise AddressInvalid(f"the server's address is not valid: {name[:40]!r} behind the question mark {what}")
        if not value.startswith("/") or "\0" in value:
            raise AddressInvalid(f"the server's address is not valid: {name} must be an absolute path")
        found[name] = value
    return TlsFiles(**found)


def with_tls(server_url: str, files: TlsFiles) -> str:
    """The address with these files for what it names none for. AddressInvalid."""
    own = read_address(server_url).tls
    wanted = {name: getattr(own, name) or getattr(files, name) for name in TlsFiles.__slots__}
    if own.tls_cert or own.tls_key:
        wanted |= {"tls_cert": own.tls_cert, "tls_key": own.tls_key}  # a pair is not put together from two places
    parameters = "&".join(f"{name}={quote(value)}" for name, value in wanted.items() if value)
    return server_url.partition("?")[0] + (f"?{parameters}" if parameters else "")


def public_address(server_url: str) -> str:
    """The address without user, password and files: what may stand in a message or log."""
    shown = []
    for url in server_url.partition("?")[0].split(","):
        parts = urlsplit(url.strip() if "://" in url else f"nats://{url.strip()}")
        shown.append(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}")
    return ",".join(shown)


def with_user(server_url: str, user: str, other: str) -> str:
    """The address with another user in the place of one, and the same password; as it is where that one is not in it."""
    urls, mark, files = server_url.partition("?")
    return (
        ",".join(re.sub(rf"^(\s*\w+://){re.escape(user)}:", rf"\g<1>{other}:", url) for url in urls.split(",")) + mark + files
    )


def credential_of(server: str) -> Credential:
    """User, password and token in the address of one server.

    They are handed to the library apart from it: in the address alone, they are not sent to the servers that a cluster
    announces. Several addresses share the credential of the one that was connected first.
    """
    parts = urlsplit(server)
    if parts.username is None:
        return Credential()
    if parts.password is None:
        return Credential(token=unquote(parts.username))
    return Credential(unquote(parts.username), unquote(parts.password))
