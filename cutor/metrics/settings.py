"""What a deployer configures of metrics, and what of it cannot work. Pure."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from cutor.model.errors import InvalidPolicy

Port = Annotated[int, Meta(ge=0, le=65535)]
_PORT: Final = "port of the {} on that address; 0 is a free one, which stands in `metrics/{}.json` of the data directory"


class MetricsSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The endpoint of each role: where a scraper finds its metrics. Whoever reaches it may read them."""

    enabled: Annotated[bool, Meta(description="whether roles have an endpoint with their metrics")] = True
    listen: Annotated[
        str, Meta(min_length=1, description="address of this host on which they listen: of IPv4 or IPv6, no name")
    ] = "127.0.0.1"
    builder_port: Annotated[Port, Meta(description=_PORT.format("builder", "builder"))] = 0
    runner_port: Annotated[Port, Meta(description=_PORT.format("runner", "runner"))] = 0
    projector_port: Annotated[Port, Meta(description=_PORT.format("projector", "projector"))] = 0

    archiver_port: Annotated[Port, Meta(description=_PORT.format("archiver", "archiver"))] = 0

    @property
    def ports(self) -> dict[str, int]:
        """The ports by role; 0: a free one."""
        return {
            "builder": self.builder_port,
            "runner": self.runner_port,
            "projector": self.projector_port,
            "archiver": self.archiver_port,
        }

    def port(self, role: str) -> int:
        """Return the port of a role."""
        return self.ports.get(role, 0)


def check_metrics(settings: MetricsSettings) -> None:
    """Raise `InvalidPolicy` that names the first setting that cannot work."""
    try:
        ipaddress.ip_address(settings.listen)
    except ValueError:
        raise InvalidPolicy(
            f"metrics.listen: {settings.listen[:80]!r} is no address such as 127.0.0.1, 0.0.0.0 or ::1"
        ) from None
    fixed = [port for port in settings.ports.values() if port]
    if len({*fixed}) < len(fixed):
        raise InvalidPolicy("metrics: two roles have the same port: give each one of its own, or 0")
