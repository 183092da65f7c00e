"""Which images a stack's containers have: names, resolved once at its start to what they mean then.

A name can be given to another image while the stack runs (`cutor setup` does so). An image's id cannot: the roles get ids, in a
file of the data directory, so that one that is started again in the midst of a life works on as before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from cutor.config import Config
from cutor.errors import CutorError
from cutor.private_files import write_privately
from cutor.stack.data import DataDirectory

if TYPE_CHECKING:
    from cutor.containers.engine import Engine


class ImagesDamaged(CutorError):
    """The file with the images of a running stack cannot be read; the message names it."""


class Images(msgspec.Struct, frozen=True, kw_only=True):
    """Ids (``sha256:…``) of the images of a runner's and of a builder's containers."""

    runner: str
    builder: str


async def resolve(engine: Engine, config: Config) -> Images:
    """Return what the configured names mean now. Raises `ImageMissing` and the engine's own errors."""
    return Images(
        runner=await engine.image_id(config.docker.image),
        builder=await engine.image_id(config.nix.image),
    )


def write(data: DataDirectory, images: Images) -> None:
    """Keep the images of this life for its roles."""
    write_privately(data.images_file, msgspec.json.encode(images))


def forget(data: DataDirectory) -> None:
    """Remove what a former life kept: this one starts no containers."""
    data.images_file.unlink(missing_ok=True)


def read(data: DataDirectory) -> Images | None:
    """Return the images of this life, None for a stack without roles that start containers. Raises `ImagesDamaged`."""
    try:
        return msgspec.json.decode(data.images_file.read_bytes(), type=Images)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ImagesDamaged(f"{data.images_file} cannot be read: start the stack again") from error


def pinned(config: Config, data: DataDirectory) -> Config:
    """Return the configuration with the images of the running stack. Raises `ImagesDamaged`."""
    if (images := read(data)) is None:
        return config
    return msgspec.structs.replace(
        config,
        docker=msgspec.structs.replace(config.docker, image=images.runner),
        nix=msgspec.structs.replace(config.nix, image=images.builder),
    )
