"""What ``cutor doctor`` sees of the images that child containers are made of."""

from __future__ import annotations

from cutor.cli.checks.findings import Finding, fail, ok
from cutor.containers.engine import Engine
from cutor.containers.errors import ImageMissing
from cutor.installation import setup_command
from cutor.jail.inside.protocol import PROTOCOL_VERSION
from cutor.nix.settings import REQUIRED, nix_version_ok
from cutor.stack import images
from cutor.stack.preflight import NIX_VERSION_LABEL, PROTOCOL_LABEL


async def check_running_images(engine: Engine, kept: images.Images) -> Finding:
    """Check the images that the running stack was started with: it has no others, whatever their names mean now."""
    for image in sorted({kept.runner, kept.builder}):
        try:
            await engine.image_id(image)
        except ImageMissing:
            return fail("running image", f"the image of the running stack is gone ({image})", "start the stack again")
    return ok("running image", "the running stack has the image that it was started with")


async def check_image(engine: Engine, image: str) -> list[Finding]:
    """Check the child image: its stage protocol and its Nix."""
    labels = await engine.image_labels(image)
    protocol, nix = labels.get(PROTOCOL_LABEL, "none"), labels.get(NIX_VERSION_LABEL, "none")
    remedy = f"make it anew with `{setup_command()}`"
    speaks = f"{image} speaks version {protocol} of the stage protocol"
    required = ".".join(map(str, REQUIRED))
    return [
        ok("child image", speaks) if protocol == str(PROTOCOL_VERSION) else fail("child image", speaks, remedy),
        ok("nix", nix) if nix_version_ok(nix) else fail("nix", f"{nix} in {image}, needed is {required} or newer", remedy),
    ]
