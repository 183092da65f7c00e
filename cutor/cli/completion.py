"""``cutor completion``: the script by which a shell completes command lines of cutor."""

from __future__ import annotations

from typing import Final

import click
from click.shell_completion import BashComplete, FishComplete, ZshComplete

from cutor.cli.options import examples


class Fish(FishComplete):
    """click's script for fish, which takes a description for its end where that has a comma."""

    source_template = FishComplete.source_template.replace('string split ","', 'string split --max 1 ","')


SHELLS: Final = {"bash": BashComplete, "zsh": ZshComplete, "fish": Fish}


@click.command(
    "completion",
    epilog=examples(
        'eval "$(cutor completion bash)"    # a line for ~/.bashrc; for ~/.zshrc the same with zsh, behind compinit',
        "cutor completion fish > ~/.config/fish/completions/cutor.fish",
        "cutor completion bash > ~/.local/share/bash-completion/completions/cutor    # with the package bash-completion",
    ),
)
@click.argument("shell", type=click.Choice(list(SHELLS)))
@click.pass_context
def command(context: click.Context, shell: str) -> None:
    """Print the script that completes cutor in a shell.

    The shell reads it when it starts. Then it completes commands, options, choices and paths, for which it asks the `cutor`
    that PATH leads to, 0.2 s each time. So a script that is kept in a file knows the commands of later releases, too.
    """
    root = context.find_root()
    click.echo(SHELLS[shell](root.command, {}, "cutor", "_CUTOR_COMPLETE").source())
