"""What a deployer configures of Docker, and a bound on what can be configured. Pure."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

OPEN_FILES_CEILING: Final = 16_384
"""Hard limit of a container; the jail's helper lowers it to the stage's own. A runner's init has all of it: it is also how many
descriptors may be on their way in sockets, of the uid's stages, before it can send one itself."""


class DockerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The Docker Engine that serves this host, and the image of child containers."""

    host: Annotated[str, Meta(description="address of the engine, `unix://…` or `tcp://…`; else `DOCKER_HOST`")] | None = None
    image: Annotated[
        str, Meta(description="image of child containers; once set-up ran, the one that it made for this very cutor")
    ] = "cutor-child:latest"
