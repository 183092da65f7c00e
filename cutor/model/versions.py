"""Versions of events between a newer and an older cutor on one stack: which there are, the stack's policy says. Pure.

A body of a newer version than this cutor knows is a stray, as all that cannot be read, unless the stack publishes that there is
such a version: then it is an event, of which this cutor cannot know what it says.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from cutor.model.codec import VERSIONS, version_of
from cutor.model.limits import Policy
from cutor.model.subjects import parse_environment_subject, parse_event_subject


class Newer(NamedTuple):
    """A kind of event, and a version of it that this cutor does not know."""

    kind: str
    version: int

    def is_among(self, published: Mapping[str, int]) -> bool:
        """Return whether a stack that publishes these versions has this one."""
        return self.version <= published.get(self.kind, 1)

    def __str__(self) -> str:
        return f"version {self.version} of {self.kind}, of which this cutor knows 1 to {VERSIONS.get(self.kind, 0)}"


def newer_version(subject: str, body: bytes) -> Newer | None:
    """Return the version that a message says it has, where it is one of a kind that this cutor knows and newer; else None."""
    found = version_of(body)
    if found is None or found.version <= VERSIONS.get(found.kind, found.version):
        return None
    event = parse_event_subject(subject)
    fits = parse_environment_subject(subject) is not None if event is None else event.kind == found.kind
    return Newer(found.kind, found.version) if fits else None


def announcing(policy: Policy, published: Policy | None) -> Policy:
    """Return a policy with the versions that there are: those that this cutor writes, and none lower than published already."""
    told = (policy.versions, published.versions if published is not None else {}, VERSIONS)
    newest = {
        kind: max(versions.get(kind, 1) for versions in told) for kind in dict.fromkeys(kind for one in told for kind in one)
    }
    return msgspec.structs.replace(policy, versions={kind: version for kind, version in newest.items() if version > 1})


def ahead(policy: Policy) -> list[Newer]:
    """Return the versions that a stack has and this cutor does not know."""
    told = (Newer(kind, version) for kind, version in sorted(policy.versions.items()))
    return [one for one in told if one.version > VERSIONS.get(one.kind, 0)]
