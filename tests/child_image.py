"""The image of this checkout's child containers: tests of several checkouts on one machine don't meet each other's."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from cutor.config import made_image
from cutor.containers.settings import DockerSettings
from cutor.installation import image_note

IMAGE: Final = made_image(image_note(Path.home())) or DockerSettings().image
