"""The image of this checkout's child containers: tests of several checkouts on one machine don't meet each other's."""

from __future__ import annotations

from typing import Final

from cutor.config import made_image
from cutor.containers.settings import DockerSettings

IMAGE: Final = made_image() or DockerSettings().image
