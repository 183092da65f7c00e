"""What a deployer configures of Docker. Pure."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta


class DockerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The Docker Engine that serves this host, and the image of child containers."""

    host: Annotated[str, Meta(description="address of the engine, `unix://…` or `tcp://…`; else `DOCKER_HOST`")] | None = None
    image: Annotated[
        str, Meta(description="image of child containers; in a checkout, the one that its own `make setup` made, once it did")
    ] = "cutor-child:latest"
