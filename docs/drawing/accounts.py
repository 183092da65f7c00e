"""Who may publish what, and reads which stream: by the users of ``deploy/nats/cluster/accounts.conf``."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple, cast

from cutor.bus.topology_diff import ConsumerSpec, StreamSpec
from cutor.bus.topology_file import covers, read

ROOT: Final = Path(__file__).resolve().parents[2]
ACCOUNTS: Final = ROOT / "deploy/nats/cluster/accounts.conf"
STREAMS: Final = ROOT / "streams.yaml"
TENANT: Final = "tenant"
"""Stands for any tenant."""
WHOLE: Final = "$JS.API.CONSUMER.CREATE."
"""Who may ask for this reads whole streams, by consumers of its own."""

_COMMENT: Final = re.compile(r"(?m)(?:^|\s)#.*$")
_USER: Final = re.compile(r'user: "([^"]+)"')
_ALLOWED: Final = re.compile(r"\b(publish|subscribe)\s*\{\s*allow:\s*\[([^]]*)\]")
_STRING: Final = re.compile(r'"([^"]+)"')


class User(NamedTuple):
    """One user: the subjects that it may publish to, and those that it may listen on."""

    name: str
    publishes: tuple[str, ...]
    listens: tuple[str, ...]

    @property
    def reads_whole_streams(self) -> bool:
        """Whether it reads streams from end to end, by consumers of its own."""
        return any(subject.startswith(WHOLE) for subject in self.publishes)

    def publishes_into(self, stream: StreamSpec) -> list[str]:
        """Return the subjects of a stream that it publishes."""
        return [subject for subject in self.publishes if any(covers(own, subject) for own in subjects_of(stream))]

    def pulls(self, consumer: str) -> bool:
        """Whether it takes deliveries of a consumer; the file names those of the tenant ``default``."""
        wanted = consumer.replace(TENANT, "default")
        return any(subject.endswith(f".{wanted}") and ".MSG.NEXT." in subject for subject in self.publishes)


def subjects_of(one: StreamSpec | ConsumerSpec) -> list[str]:
    """Return the subjects that a stream stores, or that a consumer delivers."""
    return cast("list[str]", one.config["subjects" if isinstance(one, StreamSpec) else "filter_subjects"])


@cache
def users() -> tuple[User, ...]:
    """Return the users, in the order of the file."""
    text = _COMMENT.sub("", ACCOUNTS.read_text())
    names = [*_USER.finditer(text)]
    ends = [found.start() for found in names[1:]] + [len(text)]
    return tuple(_user(found[1], text[found.end() : end]) for found, end in zip(names, ends, strict=True))


def _user(name: str, block: str) -> User:
    allowed = {kind: tuple(_STRING.findall(subjects)) for kind, subjects in _ALLOWED.findall(block)}
    return User(name, allowed["publish"], allowed["subscribe"])


@cache
def streams() -> tuple[StreamSpec, ...]:
    """Return the streams of ``streams.yaml`` with their consumers, for one tenant that stands for all."""
    return tuple(read(STREAMS.read_text(), [TENANT]).streams)
