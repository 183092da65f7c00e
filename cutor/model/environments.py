"""The events of the stream ENVIRONMENTS, and what they make of an environment: it is known by its key, one subject each.

Rules of the fold, in `evolve_environment`:

1. ``env-built`` makes it stand, and ends whatever claim there was. ``env-removed`` makes it stand no more.
2. ``env-building`` is a claim: its owner builds, or builds anew. What stands goes on standing meanwhile. The newest claim
   counts; whether its owner still lives, the events of the owner's submission say. The last ones before it are kept: who waits
   looks back at them, whether they failed.
3. ``env-pinned`` and ``env-unpinned`` are about the key, whatever stands under it: a pin outlasts a removal and a new build.
   Every ``env-pinned`` is a pin of its own; an ``env-unpinned`` takes back the one that it names, or all.
4. What cannot be read (null here) changes nothing but the sequence that the next append must expect.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from cutor.model.content import Content
from cutor.model.subjects import Address

FORMER_AT_MOST: Final = 8
"""Claims before the newest that a state keeps, so that it has a bound."""
NONE_STOOD: Final = 0
"""In the place of an ``env-built``'s sequence, where there is none."""


class Programs(msgspec.Struct, frozen=True, kw_only=True):
    """Store paths of what every stage needs: ``bash`` runs the scripts; ``sh`` and ``env`` are links in the jail."""

    bash: str
    """runs the scripts"""
    sh: str
    """`/bin/sh` of the jail"""
    env: str
    """`/usr/bin/env` of the jail"""


class _EnvironmentEvent(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind"):
    version: int = 1
    """of this kind's shape; 1 where it is left out"""


class EnvironmentBuilding(_EnvironmentEvent, frozen=True, kw_only=True, tag="env-building"):
    """A submission builds the environment, under the builder's lease with this token: who needs the same one waits for it.

    Appended by a builder. The claim comes before that lease, which gets the ``lease_number``; ``submission_sequence`` is
    that of the newest message of the submission, as the builder read it. Older claims leave out one or both.
    """

    key: str
    """of the environment, as in the subject"""
    tenant: str
    """of the submission that builds it"""
    id: str
    """of the submission that builds it"""
    lease_token: str
    """of the builder's lease"""
    worker: str
    """name of the builder"""
    lease_number: int | msgspec.UnsetType = msgspec.UNSET
    """of the builder's lease; left out in older claims"""
    submission_sequence: int | msgspec.UnsetType = msgspec.UNSET
    """of the submission's newest message, as the builder read it; left out in older claims"""

    @property
    def owner(self) -> Address:
        """The submission that builds it."""
        return Address(self.tenant, self.id)


class EnvironmentBuilt(_EnvironmentEvent, frozen=True, kw_only=True, tag="env-built"):
    """The environment stands in the store. ``variables`` is the captured block: ``NAME=VALUE`` and a NUL byte, each.

    Appended by a builder; by `cutor env refresh` where it takes back a removal. ``private_to`` is the submission,
    ``TENANT/ID``, that alone uses it and with whose end it goes (``cache: false``); it is left out for an environment that
    is kept.
    """

    key: str
    """of the environment, as in the subject"""
    derivation: str
    """store path of its derivation"""
    closure: tuple[str, ...]
    """store paths that it needs, sorted"""
    closure_bytes: int
    """bytes of these paths together, as archives of Nix"""
    variables: Content
    """the captured variables: `NAME=VALUE` and a NUL byte, each"""
    programs: Programs
    """store paths of what every stage needs"""
    worker: str
    """name of the builder"""
    private_to: str | msgspec.UnsetType = msgspec.UNSET
    """`TENANT/ID` of the one submission that uses it (`cache: false`); left out where it is kept"""


class EnvironmentRemoved(_EnvironmentEvent, frozen=True, kw_only=True, tag="env-removed"):
    """The environment is gone from the store, or must not be trusted to be there.

    Appended by `cutor gc`, `cutor env remove` and `cutor env refresh`, and by a builder at the end of the one submission that
    it was built for.
    """

    key: str
    """of the environment, as in the subject"""
    reason: str
    """why, in one line"""


class EnvironmentPinned(_EnvironmentEvent, frozen=True, kw_only=True, tag="env-pinned"):
    """An operator wants the environment to be kept, or a refresh while it runs (``passing``): no collection takes it.

    Appended by `cutor env pin` and `cutor env refresh`.
    """

    key: str
    """of the environment, as in the subject"""
    passing: bool | msgspec.UnsetType = msgspec.UNSET
    """true for the pin that a command takes back itself; else left out"""


class EnvironmentUnpinned(_EnvironmentEvent, frozen=True, kw_only=True, tag="env-unpinned"):
    """All pins are taken back, or the one of the ``env-pinned`` at ``pin_sequence`` alone.

    Appended by `cutor env unpin` and `cutor env refresh`.
    """

    key: str
    """of the environment, as in the subject"""
    pin_sequence: int | msgspec.UnsetType = msgspec.UNSET
    """of the `env-pinned` that is taken back; left out: all are"""


EnvironmentEvent = EnvironmentBuilding | EnvironmentBuilt | EnvironmentRemoved | EnvironmentPinned | EnvironmentUnpinned


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """An environment as its events tell it.

    ``built`` is what stands (null: nothing), its event at ``built_sequence`` (`NONE_STOOD` for none); ``building`` the newest
    claim that no ``env-built`` has followed, ``former`` the last `FORMER_AT_MOST` before it, oldest first. ``pins`` are
    the ``env-pinned`` that stand, by sequence, ``passing`` those of them that a command takes back itself. ``sequence`` is
    that of the newest message under the key, 0 for none: what the next append must expect.
    """

    key: str
    built: EnvironmentBuilt | None = None
    built_sequence: int = NONE_STOOD
    building: EnvironmentBuilding | None = None
    former: tuple[EnvironmentBuilding, ...] = ()
    pins: tuple[int, ...] = ()
    passing: tuple[int, ...] = ()
    sequence: int = 0

    @property
    def pinned(self) -> bool:
        """Whether anybody wants it to be kept."""
        return bool(self.pins)

    @property
    def pinned_to_last(self) -> bool:
        """Whether anybody does until it is taken back on purpose."""
        return len(self.pins) > len(self.passing)


def evolve_environment(environment: Environment, event: EnvironmentEvent | None, sequence: int) -> Environment:
    """Return an environment after the message at a sequence. See the module."""
    replace = msgspec.structs.replace
    environment = replace(environment, sequence=sequence)
    match event:
        case EnvironmentBuilding():
            former = environment.former if environment.building is None else (*environment.former, environment.building)
            return replace(environment, building=event, former=former[-FORMER_AT_MOST:])
        case EnvironmentBuilt():
            return replace(environment, built=event, built_sequence=sequence, building=None, former=())
        case EnvironmentRemoved():
            return replace(environment, built=None, built_sequence=NONE_STOOD)
        case EnvironmentPinned():
            own = (sequence,) if event.passing is True else ()
            return replace(environment, pins=(*environment.pins, sequence), passing=(*environment.passing, *own))
        case EnvironmentUnpinned(pin_sequence=one):
            pins = tuple(pin for pin in environment.pins if isinstance(one, int) and pin != one)
            return replace(environment, pins=pins, passing=tuple(pin for pin in environment.passing if pin in pins))
        case None:
            return environment


def fold_environment(key: str, events: Iterable[tuple[EnvironmentEvent | None, int]]) -> Environment:
    """Return the environment of a key after the messages under it, in stream order, each with its sequence."""
    environment = Environment(key=key)
    for event, sequence in events:
        environment = evolve_environment(environment, event, sequence)
    return environment


def pack_variables(variables: tuple[tuple[bytes, bytes], ...]) -> bytes:
    """Return variables as one block: ``NAME=VALUE`` and a NUL byte, each."""
    return b"".join(name + b"=" + value + b"\0" for name, value in variables)


def unpack_variables(block: bytes) -> tuple[tuple[bytes, bytes], ...]:
    """Return the variables of a block made by `pack_variables`. Raises ValueError for a block of another form."""
    if block and not block.endswith(b"\0"):
        raise ValueError("the block of variables does not end with a NUL byte")
    pairs = (entry.partition(b"=") for entry in block.split(b"\0")[:-1])
    return tuple((name, value) for name, _, value in pairs)
