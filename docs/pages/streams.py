"""The page of streams and consumers: every setting of ``streams.yaml`` with its value, its reason, and what it must be."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

import yaml

from cutor.bus.topology import default_text
from cutor.bus.topology_file import CONSUMER_SETTINGS, STREAM_SETTINGS, parse
from cutor.bus.topology_promises import promises
from docs.pages.fields import cell

ABOUT: Final = """\
# Streams and consumers

Made from `streams.yaml`, its comments, and what `cutor/bus/topology_promises.py` demands of it, by `python docs/generate.py`.
"""

CHANGING: Final = """
## A file of one's own

`server.streams` in the [configuration](configuration.md#server) names another file, with all of it written down: what is left
out is no default of this one. What the column *must be* says is checked before anything is done, and a file that breaks it is
refused with the place. `cutor streams plan` shows what would change, `cutor streams apply` changes it; a change that NATS does
not make of a stream that stands (storage, for one) is refused, and nothing is changed then. Settings that are not below:
"""


_PATTERN: Final = re.compile(r"(?<!`)((?:[\w.]*<\w+>[\w.-]*)+)")
"""A subject with places in it, which Markdown would take for a tag."""


class Setting(NamedTuple):
    """A setting as the file has it: its value, and the comments beside it."""

    name: str
    value: str
    reason: str


def page() -> str:
    """Return the page. Raises `TopologyError` where the file is none, AssertionError where it has another form."""
    text = default_text()
    parse(text, ["default"])
    lines = [*ABOUT.splitlines(), "", *_head(text)]
    [(_, streams)] = _pairs(yaml.compose(text))
    for name, node in _pairs(streams):
        lines += _stream(name, node, text.splitlines())
    lines += [*CHANGING.splitlines(), "", *_others(streams)]
    return "\n".join(lines) + "\n"


def _head(text: str) -> Iterator[str]:
    """Yield the comment at the head of the file as paragraphs."""
    for line in text.splitlines():
        if not line.startswith("#"):
            return
        yield line.removeprefix("#").strip()


def _pairs(node: yaml.Node) -> Iterator[tuple[str, yaml.Node]]:
    assert isinstance(node, yaml.MappingNode)
    yield from ((key.value, value) for key, value in node.value)


def _stream(name: str, node: yaml.Node, lines: list[str]) -> Iterator[str]:
    """Yield the section of a stream, with its consumers."""
    inner = dict(_pairs(node))
    yield from ("", f"## {name}", "", f"{inner['description'].value}.", "")
    yield from _table(list(_settings(node, lines)), _musts(name))
    for consumer, settings in _pairs(inner["consumers"]) if "consumers" in inner else ():
        yield from ("", f"### {consumer}", "", f"{dict(_pairs(settings))['description'].value}.", "")
        yield from _table(list(_settings(settings, lines)), _musts(consumer.partition("-")[0]))


def _musts(holder: str) -> dict[str, str]:
    """Return what must be so in a stream, or in the consumers of a role."""
    return {setting: words for name, setting, words in promises() if name == holder}


def _table(settings: list[Setting], musts: dict[str, str]) -> Iterator[str]:
    yield from ("| setting | value | why | must be |", "|---|---|---|---|")
    for one in settings:
        yield f"| `{one.name}` | {one.value} | {cell(one.reason)} | {cell(musts.pop(one.name, ''))} |"
    yield from (f"| `{setting}` | left out | | {cell(words)} |" for setting, words in musts.items())


def _settings(node: yaml.Node, lines: list[str]) -> Iterator[Setting]:
    """Yield the settings of a stream or consumer but for its description, which stands above the table."""
    for name, value in _pairs(node):
        if name in ("description", "consumers"):
            continue
        items = value.value if isinstance(value, yaml.SequenceNode) else [value]
        comments = [(item.value, comment) for item in items if (comment := _comment(item, lines))]
        words = [comment if len(items) == 1 else f"`{item}`: {comment}" for item, comment in comments]
        yield Setting(name, " ".join(f"`{item.value}`" for item in items), "; ".join(words))


def _comment(node: yaml.Node, lines: list[str]) -> str:
    """Return the comment behind a value, on its line."""
    rest = lines[node.end_mark.line][node.end_mark.column :].lstrip("] ")
    assert rest[:1] in ("", "#"), rest
    return _PATTERN.sub(r"`\1`", rest.removeprefix("#").strip())


def _others(streams: yaml.Node) -> Iterator[str]:
    """Yield the settings that may be given and are nowhere in the file."""
    used = {name for _, node in _pairs(streams) for name, _ in _pairs(node)}
    known = [name for name in STREAM_SETTINGS if name not in used]
    yield from (f"- `{name}`, else `{str(STREAM_SETTINGS[name].default).lower()}`" for name in known)
    assert set(CONSUMER_SETTINGS) <= {
        name
        for _, node in _pairs(streams)
        for key, consumers in _pairs(node)
        if key == "consumers"
        for _, settings in _pairs(consumers)
        for name, _ in _pairs(settings)
    }
