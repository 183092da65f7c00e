"""``cutor env cache-key``: a key pair for the binary cache, made by Nix."""

from __future__ import annotations

import asyncio
import os
import secrets
from pathlib import Path

import click

from cutor.cli.options import Wanted, examples, json_option
from cutor.cli.output import print_json
from cutor.config import Config, check_docker_host
from cutor.containers.engine import Engine
from cutor.errors import REFUSED, CutorError
from cutor.model.quoting import shown
from cutor.nix.cache import KEY_NAME
from cutor.nix.cache_session import CacheSession


class KeyFileRefused(CutorError):
    """The file of a new secret key can't be made; the message says why."""

    exit_code = REFUSED


def _check_name(_ctx: click.Context, param: click.Parameter, value: str) -> str:
    """Return the name; fail for what Nix would not take for one."""
    if not KEY_NAME.fullmatch(value):
        raise click.BadParameter(
            f"{shown(value)} is no name of a key: letters, digits, '.', '_' and '-', such as cache.example.org-1", param=param
        )
    return value


@click.command("cache-key", epilog=examples("cutor env cache-key cache.example.org-1 /etc/cutor/cache-key"))
@click.argument("name", callback=_check_name)
@click.argument("file", type=click.Path(path_type=Path))
@json_option
@click.pass_obj
def cache_key_command(wanted: Wanted, name: str, file: Path) -> None:
    """Make the keys of a binary cache.

    Environments are signed in it by the secret key, and known by the public one. The secret key goes into FILE, which must
    not be there yet, with mode 0600: it is for `nix.cache_secret_key_file` of builders. The public key is printed: it is for
    `nix.cache_public_keys` of runners. NAME stands in every signature; a number at its end helps when the key is changed one
    day. Docker and the child image are needed.
    """
    _check_absent(file)
    secret, public = asyncio.run(_make(wanted.loaded.config, name))
    _write(file, secret)
    if wanted.json:
        print_json({"name": name, "public_key": public, "file": str(file.absolute())})
        return
    click.echo(public)


async def _make(config: Config, name: str) -> tuple[str, str]:
    check_docker_host(config.docker.host)
    async with Engine.connect(config.docker.host) as engine:
        instance = f"command-{secrets.token_hex(4)}"
        async with CacheSession(engine, config.nix, instance=instance, user="command") as session:
            return await session.key_pair(name)


def _check_absent(file: Path) -> None:
    """Raise `KeyFileRefused` before a key is made for a file that can't be."""
    if os.path.lexists(file):
        raise KeyFileRefused(
            f"{shown(str(file))} is there already: a key is never overwritten; name another file, or remove it"
        )
    if not file.absolute().parent.is_dir():
        raise KeyFileRefused(f"{shown(str(file.absolute().parent))} is no directory: make it first")


def _write(file: Path, secret: str) -> None:
    """Write the key where nothing is yet: no link is followed, and nobody else can read it at any moment."""
    try:
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "w") as opened:
            opened.write(f"{secret}\n")
            opened.flush()
            os.fsync(opened.fileno())
    except OSError as error:
        raise KeyFileRefused(f"{shown(str(file))} cannot be written: {error.strerror}") from error
