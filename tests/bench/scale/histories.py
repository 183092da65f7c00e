"""Histories as a stack has them after a while: the seven events of one real submission, told of as many others as are wanted.

The bodies are those that cutor itself has written, with other tokens, and the environment of another ``shell.nix``; so are the
``env-built`` of the environments, whose store paths are those of the one that was really built. Who hands in one of these
``shell.nix`` meets an environment that is known and there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from cutor.bus.message import Stored
from cutor.containers.engine import Engine
from cutor.model.environments import EnvironmentBuilt
from cutor.model.events import Leased
from cutor.model.messages import read_message
from cutor.model.request import SHELL_NIX
from cutor.model.subjects import Address, environment_subject, event_subject, parse_event_subject
from cutor.nix.key import EnvironmentInputs, environment_key
from cutor.nix.settings import NixSettings
from tests.bench.lives import EPOCH_NS, Made
from tests.bench.performance.cases import PYTHON, Case

SHELL: Final = "{{ pkgs ? import <nixpkgs> {{ }} }}: pkgs.mkShell {{ packages = [ pkgs.python3 ]; }} # {:06}\n"
"""The text of an environment's ``shell.nix``, by its number: a comment is enough to make it another one."""
AT_ONCE: Final = 200
"""Submissions that are under way at one time."""
TENANT: Final = "default"


def case_of(environment: int) -> Case:
    """Return the submission that is handed in, in an environment."""
    return PYTHON._replace(shell=SHELL.format(environment))


async def keys(count: int, settings: NixSettings) -> list[str]:
    """Return the keys of so many environments, as a builder makes them."""
    async with Engine.connect() as engine:
        image, packages = await engine.image_labels(settings.image), await engine.volume_labels(settings.packages_volume)
    return [
        environment_key(
            EnvironmentInputs(
                files={SHELL_NIX: SHELL.format(number).encode()},
                settings=settings,
                packages_digest=(packages or {}).get("cutor.packages", ""),
                nix_version=image.get("cutor.nix-version", ""),
                nix_configuration=image.get("cutor.nix-configuration", ""),
            )
        )
        for number in range(count)
    ]


class Model(NamedTuple):
    """What a real submission in environment 0 has left: its events, the ``env-built``, and what in them is of it alone."""

    events: tuple[tuple[str, bytes], ...]
    built: bytes
    key: str
    tokens: tuple[str, ...]

    @classmethod
    def of(cls, messages: Sequence[Stored], built: EnvironmentBuilt, built_body: bytes) -> Model:
        """Return the model that a submission's messages make."""
        read = [read_message(stored.subject, stored.body) for stored in messages]
        tokens = tuple(event.lease.token for event in read if isinstance(event, Leased))
        subjects = [parse_event_subject(stored.subject) for stored in messages]
        events = tuple((subject.kind, one.body) for subject, one in zip(subjects, messages, strict=True) if subject is not None)
        return cls(events, built_body, built.key, tokens)

    def environments(self, keys: Sequence[str]) -> Iterator[Made]:
        """Yield an ``env-built`` for every key."""
        for number, key in enumerate(keys, 1):
            body = self.built.replace(self.key.encode(), key.encode())
            yield Made(number, environment_subject(key), EPOCH_NS + number, f"env/{key}/built", body)

    def submissions(self, first: int, count: int, keys: Sequence[str]) -> Iterator[Made]:
        """Yield the messages of so many submissions from a number on, spread over the environments; lives overlap."""
        life = [(kind, self._of_environment(body, keys)) for kind, body in self.events]
        sequence = 0
        for begin in range(first, first + count, AT_ONCE):
            block = range(begin, min(begin + AT_ONCE, first + count))
            for step, (kind, bodies) in enumerate(life):
                for number in block:
                    sequence += 1
                    address = Address(TENANT, f"past-{number:09d}")
                    body = bodies[number % len(keys)]
                    for nth, token in enumerate(self.tokens):
                        body = body.replace(token.encode(), b"%015x%x" % (number, nth))
                    subject = event_subject(address, kind)
                    yield Made(sequence, subject, EPOCH_NS + sequence, f"{address}/{kind}/{step}", body)

    def queued(self, count: int) -> Iterator[Made]:
        """Yield the first message alone of so many submissions: they wait for a builder."""
        kind, body = self.events[0]
        for number in range(count):
            address = Address(TENANT, f"queued-{number:09d}")
            yield Made(number, event_subject(address, kind), EPOCH_NS, f"{address}/{kind}", body)

    def _of_environment(self, body: bytes, keys: Sequence[str]) -> list[bytes]:
        comments = [f"# {number:06}" for number in range(len(keys))]
        return [
            body.replace(self.key.encode(), key.encode()).replace(comments[0].encode(), comment.encode())
            for key, comment in zip(keys, comments, strict=True)
        ]
