"""Options that several commands share, and what they say."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import click

from cutor.config import Loaded, Surroundings, load
from cutor.stack.finding import find_server

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


class Wanted:
    """What the command line says beside the command's own options; one an invocation (``ctx.obj``)."""

    def __init__(self) -> None:
        self.config: Path | None = None
        self.server: str | None = None
        self.json = False
        self.traceback = False

    @cached_property
    def surroundings(self) -> Surroundings:
        """The environment."""
        return Surroundings.read()

    @cached_property
    def loaded(self) -> Loaded:
        """The configuration. Raises `InvalidConfig`."""
        return load(self.config, self.surroundings)

    def find_server(self) -> str:
        """Return the stack's address with its credential. Raises `NoStack`, `InvalidConfig`."""
        return find_server(self.server, self.surroundings, self.loaded.config)


def _keep(name: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    """Return a callback that keeps an option's value in `Wanted`; one that is not given changes nothing."""

    def callback(context: click.Context, _: click.Parameter, value: Any) -> None:
        if value:
            setattr(context.ensure_object(Wanted), name, value)

    return callback


def config_option(command: Decorated) -> Decorated:
    """Add ``--config``."""
    option = click.option(
        "--config",
        type=click.Path(path_type=Path),
        metavar="FILE",
        expose_value=False,
        callback=_keep("config"),
        help="Configuration file (else CUTOR_CONFIG, else ~/.config/cutor/config.toml if it is there).",
    )
    return option(command)


def server_option(command: Decorated) -> Decorated:
    """Add ``--server`` and ``--config``."""
    option = click.option(
        "--server",
        metavar="URL",
        expose_value=False,
        callback=_keep("server"),
        help="NATS server of the stack (else CUTOR_SERVER, else `server.url`, else the stack that `cutor up` started last).",
    )
    return config_option(option(command))


def json_option(command: Decorated) -> Decorated:
    """Add ``--json``."""
    option = click.option(
        "--json", is_flag=True, expose_value=False, callback=_keep("json"), help="Print one JSON document and nothing else."
    )
    return option(command)


def traceback_option(command: Decorated) -> Decorated:
    """Add ``--traceback``."""
    option = click.option(
        "--traceback", is_flag=True, expose_value=False, callback=_keep("traceback"), help="Show where in cutor an error arose."
    )
    return option(command)


def tenant_option(command: Decorated) -> Decorated:
    """Add ``--tenant``."""
    return click.option("--tenant", metavar="NAME", default="default", show_default=True, help="Tenant of the submission.")(
        command
    )


def data_option(command: Decorated) -> Decorated:
    """Add ``--data``."""
    option = click.option(
        "--data",
        type=click.Path(path_type=Path),
        metavar="DIR",
        help="Data directory (else `data_directory`, else ~/.local/share/cutor).",
    )
    return option(command)


def examples(*lines: str) -> str:
    """Return the end of a help text: one example a line, each as it would be typed."""
    return "\n".join(["\b", "Examples:", *(f"  {line}" for line in lines)])
