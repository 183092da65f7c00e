"""``cutor dead-letters``: messages in the log that are no events, or events where none of their kind can be."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import click
import msgspec

from cutor.bus.connection import Bus
from cutor.cli.options import Wanted, examples, json_option, limit_option, server_option
from cutor.cli.output import print_json
from cutor.cli.render import console, print_table
from cutor.cli.rows import excerpt
from cutor.journal.dead_letters import LIST_DEFAULT, LetterStream, Listing, list_letters, show_letter
from cutor.model.content import encode_text
from cutor.model.events import output
from cutor.model.letters import Letter
from cutor.model.units import counted, size
from cutor.text import cut, escape

SUBJECT_COLUMNS: Final = 60
"""Most columns of a letter's subject in the table; a longer one is cut."""

_STREAMS: Final = click.Choice(["EVENTS", "ENVIRONMENTS"])


@click.group(
    "dead-letters",
    no_args_is_help=False,
    epilog=examples("cutor dead-letters list", "cutor dead-letters show 4711"),
)
def command() -> None:
    """List or show messages that are no events.

    Whoever may publish can put anything into the log. What cannot be read, and what cannot happen where it stands, changes
    nothing: the projector keeps a copy of it with the reason, the newest GiB of them. The view `dead_letters` names all.

    An event that builders or runners cannot act on, for a bug of cutor's, is copied by them: its submission does not end.
    """


@command.command("list", epilog=examples("cutor dead-letters list", "cutor dead-letters list --stream ENVIRONMENTS --json"))
@click.option("--stream", type=_STREAMS, help="Those about messages of this stream alone.")
@limit_option(LIST_DEFAULT)
@json_option
@server_option
@click.pass_obj
def list_command(wanted: Wanted, stream: LetterStream | None, limit: int) -> None:
    """List dead letters, the newest first.

    Sequence and time are those of the message in its stream. With --json one array.
    """
    listing = asyncio.run(_list(wanted.find_server(), stream, limit))
    if wanted.json:
        print_json([_document(letter) for letter in listing.letters])
    else:
        _print_listing(listing, limit, stream)


@command.command("show", epilog=examples("cutor dead-letters show 4711", "cutor dead-letters show 4711 --json"))
@click.argument("sequence", metavar="SEQUENCE", type=click.IntRange(1))
@click.option("--stream", type=_STREAMS, default="EVENTS", show_default=True, help="Stream in which the message stands.")
@json_option
@server_option
@click.pass_obj
def show_command(wanted: Wanted, sequence: int, stream: LetterStream) -> None:
    """Show a dead letter.

    Where the message stands, why it is one, and the first lines of its body. With --json the body is whole, as text or, where
    it is no UTF-8, as base64.
    """
    letter, body = asyncio.run(_show(wanted.find_server(), stream, sequence))
    if wanted.json:
        encoding, data = encode_text(body)
        print_json(_document(letter) | {"body": {"encoding": encoding, "data": data}})
    else:
        _print_letter(letter, body)


async def _list(server: str, stream: LetterStream | None, limit: int) -> Listing:
    async with Bus.connect(server, name="cutor dead-letters") as bus:
        return await list_letters(bus, stream, limit=limit)


async def _show(server: str, stream: LetterStream, sequence: int) -> tuple[Letter, bytes]:
    async with Bus.connect(server, name="cutor dead-letters") as bus:
        return await show_letter(bus, stream, sequence)


def _document(letter: Letter) -> dict[str, Any]:
    """Return a letter as JSON has it: all but what is for the writer."""
    document: dict[str, Any] = msgspec.to_builtins(letter)
    del document["complete_to"]
    return document


def _print_listing(listing: Listing, limit: int, stream: LetterStream | None) -> None:
    if listing.letters:
        headings = ["stream", "sequence", "time (UTC)", "size", "subject", "reason"]
        print_table(headings, map(_cells, listing.letters), right=["sequence", "size"], fold="reason")
    if listing.none:
        click.echo(f"{listing.none} more there that are no letters: something else than cutor published them")
    if listing.more:
        about = f"about {stream}; there are more" if stream else f"of {listing.total:,}"
        click.echo(f"these are the newest {limit:,} {about}: --limit N shows them")
    elif not listing.letters:
        click.echo("no dead letters")


def _cells(letter: Letter) -> list[str]:
    subject = cut(escape(letter.subject), SUBJECT_COLUMNS)
    moment = f"{letter.time[:10]} {letter.time[11:19]}"
    return [letter.stream, str(letter.sequence), moment, size(letter.size_bytes), subject, letter.reason]


def _print_letter(letter: Letter, body: bytes) -> None:
    kept = f", of which {len(body)} are kept" if letter.truncated else ""
    facts = [
        ("message", f"{letter.sequence} of {letter.stream}"),
        ("subject", letter.subject),
        ("time", letter.time),
        ("message id", letter.message_id or ""),
        ("reason", letter.reason),
        ("size", f"{counted(letter.size_bytes, 'byte')}{kept}"),
    ]
    out = console()
    for name, value in facts:
        if value:
            out.print(f"{name:<11} {escape(value)}", soft_wrap=True)
    if body:
        out.print("body:")
        for line in excerpt(output(body, len(body)), tail=False).split("\n"):
            out.print(f"    {line}", soft_wrap=True)
