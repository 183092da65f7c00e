"""What a deployer configures of the NATS server, and what of it cannot work. Pure."""

from __future__ import annotations

import re
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from cutor.model.errors import InvalidPolicy

SYNC_INTERVAL: Final = re.compile(r"always|[1-9][0-9]{0,5}(ms|s|m|h)", re.ASCII)


class ServerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The NATS server: which one commands and roles talk to, the port of the embedded one, and the streams in it."""

    url: Annotated[str, Meta(description="the server of commands and roles where nothing else names one")] | None = None
    port: Annotated[int, Meta(ge=1, le=65535, description="the port of the embedded server; must be free then")] | None = None
    sync_interval: Annotated[
        str,
        Meta(
            description="how often the embedded server forces appends to the disk: `2m`, `500ms` …, or `always`, each by itself"
        ),
    ] = "2m"
    streams: Annotated[str, Meta(description="a `streams.yaml` of one's own instead of the shipped one; absolute")] | None = (
        None
    )
    replicas: (
        Annotated[int, Meta(ge=1, le=5, description="copies of every stream, whatever `streams.yaml` says: 3 in a cluster")]
        | None
    ) = None
    tls_ca: Annotated[str, Meta(description="the CA that is trusted instead of the system's, in PEM; absolute")] | None = None
    tls_cert: (
        Annotated[str, Meta(description="a certificate of one's own, where the server wants one of clients, in PEM; absolute")]
        | None
    ) = None
    tls_key: Annotated[str, Meta(description="the key of `tls_cert`, in PEM, without a password; absolute")] | None = None

    def files(self) -> list[tuple[str, str | None]]:
        """Return the keys that name files, with what they name."""
        return [(f"server.{name}", getattr(self, name)) for name in ("streams", "tls_ca", "tls_cert", "tls_key")]


def check_server(settings: ServerSettings) -> None:
    """Raise `InvalidPolicy` that names the first setting that cannot work."""
    if not SYNC_INTERVAL.fullmatch(settings.sync_interval):
        raise InvalidPolicy(
            f"server.sync_interval: {settings.sync_interval[:40]!r} is neither `always` nor a time such as 2m or 500ms"
        )
    if (settings.tls_cert is None) != (settings.tls_key is None):
        raise InvalidPolicy("server: tls_cert and tls_key belong together: name both, or neither")
