"""Options that several commands share, and what they say."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from cutor.config import Loaded, Surroundings, check_docker_host, load
from cutor.errors import CutorError
from cutor.model.errors import InvalidRequest
from cutor.model.quoting import shown
from cutor.model.subjects import Address, check_address
from cutor.stack import current
from cutor.stack.current import CurrentStack
from cutor.stack.data import DataDirectory, command_for
from cutor.stack.finding import find_server
from cutor.stack.lock import is_free

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


class StackDied(CutorError):
    """The stack that was started last is dead; the message names its data directory."""

    def __init__(self, data: str) -> None:
        super().__init__(
            f"the stack of {data} has died: `{command_for('up', Path(data))}` starts it again, "
            f"`{command_for('down', Path(data))}` removes what it left behind"
        )


class Seconds(click.FloatRange):
    """A number of seconds: one that a clock can reach. Python reads ``nan`` and ``inf`` as numbers too."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number, within the range; fail for what is none."""
        seconds = super().convert(value, param, ctx)
        if not math.isfinite(seconds):
            self.fail(f"{value} is no number of seconds", param, ctx)
        return seconds


class Wanted:
    """What the command line says beside the command's own options; one an invocation (``ctx.obj``)."""

    def __init__(self) -> None:
        self.config: Path | None = None
        self.server: str | None = None
        self.json = False
        self.traceback = False
        self.done_so_far: dict[str, Any] | None = None
        """What a command had done before an error, or an interruption: it stands beside that in the document of ``--json``.

        None: it has nothing to say of that, or has said it.
        """

    @cached_property
    def surroundings(self) -> Surroundings:
        """The environment."""
        return Surroundings.read()

    @cached_property
    def loaded(self) -> Loaded:
        """The configuration. Raises `InvalidConfig`."""
        return load(self.config, self.surroundings)

    @cached_property
    def loaded_for_docker(self) -> Loaded:
        """The configuration of a command that talks to Docker. Raises `InvalidConfig`, also for an address it cannot use."""
        check_docker_host(self.loaded.config.docker.host)
        return self.loaded

    @cached_property
    def own_stack(self) -> CurrentStack | None:
        """The stack that `cutor up` started last, where the command line is for that one: nothing names another server.

        Raises `CurrentStackDamaged`, `InvalidConfig`.
        """
        if self.server or self.surroundings.server or self.loaded.config.server.url:
            return None
        return current.read(self.surroundings.current_stack)

    @cached_property
    def started_with(self) -> Loaded | None:
        """What `own_stack` was started with; None where there is none, or it has no copy. Raises `InvalidConfig`."""
        if self.own_stack is None:
            return None
        file = DataDirectory(Path(self.own_stack.data)).config_file
        return load(file, self.surroundings) if file.is_file() else None

    @cached_property
    def loaded_of_stack(self) -> Loaded:
        """The configuration to hold against the stack: one that is named, else that of `own_stack`, else `loaded`.

        Named is what ``--config`` says, or CUTOR_CONFIG. Raises `InvalidConfig`, `CurrentStackDamaged`.
        """
        if self.config is not None or self.surroundings.config_file is not None:
            return self.loaded
        return self.started_with or self.loaded

    @property
    def archive_directory(self) -> str | None:
        """Where the stack's archive lies, if it has one; it need not be on this host. Raises as `loaded_of_stack`."""
        return self.loaded_of_stack.config.archive.directory

    def find_server(self) -> str:
        """Return the stack's address with its credential. Raises `NoStack`, `StackDied`, `InvalidConfig`."""
        server = find_server(self.server, self.surroundings, self.loaded.config)
        if (stack := self.own_stack) is not None:
            lock = DataDirectory(Path(stack.data)).lock
            if lock.is_file() and is_free(lock):
                raise StackDied(stack.data)
        return server


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
    """Add ``--tenant``; what it says of a submission, `named_submission` reads."""
    return click.option("--tenant", metavar="NAME", help="Tenant of the submission, unless ID says it.  [default: default]")(
        command
    )


def split_name(name: str, tenant: str | None) -> tuple[str, str | None]:
    """Return the id in ``ID`` or ``TENANT/ID``, as results show it, and its tenant: of the name, else ``tenant``.

    Neither is checked yet. Raises `InvalidRequest` where the name's tenant is another one than that of ``--tenant``.
    """
    if "/" not in name:
        return name, tenant
    named, _, submission_id = name.partition("/")
    if tenant is not None and tenant != named:
        raise InvalidRequest(f"{shown(name)} is of the tenant {shown(named)}, and --tenant says {shown(tenant)}: leave one out")
    return submission_id, named


def named_submission(name: str, tenant: str | None) -> Address:
    """Return the submission that a command line names, as ``ID`` with the tenant beside it, or as ``TENANT/ID``.

    Raises `InvalidRequest`.
    """
    submission_id, of = split_name(name, tenant)
    return check_address("default" if of is None else of, submission_id)


def parse_labels(_: click.Context, __: click.Parameter, pairs: tuple[str, ...]) -> dict[str, str]:
    """Return the labels in ``KEY=VALUE``: the callback of an option. Raises `BadParameter`."""
    labels = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise click.BadParameter(f"{shown(pair)} is not KEY=VALUE")
        if key in labels:
            raise click.BadParameter(f"the key {shown(key)} is there twice")
        labels[key] = value
    return labels


def data_option(command: Decorated) -> Decorated:
    """Add ``--data``."""
    option = click.option(
        "--data",
        type=click.Path(path_type=Path),
        metavar="DIR",
        help="Data directory (else `data_directory`, else ~/.local/share/cutor).",
    )
    return option(command)


EXIT_CODES: Final = "What exit codes mean, where nothing else is said above: `cutor --help`."


def examples(*lines: str) -> str:
    """Return the end of a help text: one example a line, each as it would be typed, and where exit codes are listed."""
    return with_examples(*lines, end=EXIT_CODES)


def with_examples(*lines: str, end: str) -> str:
    """Return examples as `examples` does, and ``end`` below them."""
    return "\n".join(["\b", "Examples:", *(f"  {line}" for line in lines), "", end])


LIST_AT_MOST: Final = 100_000
"""Most entries of a listing that `--limit` can ask for."""


def limit_option(default: int) -> Callable[[Decorated], Decorated]:
    """Return the option of how many entries a listing has at the most."""
    return click.option(
        "--limit",
        type=click.IntRange(1, LIST_AT_MOST),
        metavar="N",
        default=default,
        show_default=True,
        help="How many at most.",
    )
