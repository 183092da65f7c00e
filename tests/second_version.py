"""A cutor that has second versions of eight kinds of events: ``python -m tests.second_version ARGS`` is ``cutor ARGS`` of it.

Today's shapes are version 2 there, and version 1 is one that never was, of other names and nesting. They are made as a
developer makes them: types say the number, `cutor.model.codec.UPCASTERS` has a function for each old version, golden files
keep a body of each. Everything that reads events in that process is cutor's own.

Beside the commands of cutor it has ``fold`` (messages into a file of views), ``judge`` (a builder and a runner) and ``golden``.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import pickle
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

GOLDEN: Final = Path(__file__).parent / "golden"
Document = dict[str, Any]
Change = Callable[[Document], Document]


def _renamed(document: Document, old: str, new: str) -> Document:
    """Return a document in which a field has another name, at the same place."""
    return {(new if name == old else name): value for name, value in document.items()}


def _submitted_before(document: Document) -> Document:
    request = _renamed(document["request"], "test_cases", "tests")
    if "labels" in request:
        request["labels"] = [[name, value] for name, value in request["labels"].items()]
    return document | {"request": request}


def _submitted_since(document: Document) -> Document:
    request = _renamed(document["request"], "tests", "test_cases")
    if "labels" in request:
        request["labels"] = dict(request["labels"])
    return document | {"request": request}


def _leased_before(document: Document) -> Document:
    return {"kind": "leased"} | document["lease"]


def _leased_since(document: Document) -> Document:
    return {"kind": "leased", "lease": {name: document[name] for name in ("role", "worker", "token", "number")}}


def _cache_built_before(document: Document) -> Document:
    environment = document["environment"]
    return {name: value for name, value in document.items() if name != "environment"} | {
        "environment_key": environment["key"],
        "derivation": environment["derivation"],
        "hit": environment["hit"],
    }


def _cache_built_since(document: Document) -> Document:
    flat = ("environment_key", "derivation", "hit")
    environment = {"key": document["environment_key"], "derivation": document["derivation"], "hit": document["hit"]}
    return {name: value for name, value in document.items() if name not in flat} | {"environment": environment}


class _Renaming:
    """An upcaster, or its opposite, that gives a field another name. One that is not there is left out."""

    def __init__(self, old: str, new: str) -> None:
        self.names = (old, new)

    def __call__(self, document: Document) -> Document:
        return _renamed(document, *self.names)


UPCASTERS: Final[Mapping[str, Change]] = MappingProxyType(
    {
        "submitted": _submitted_since,
        "leased": _leased_since,
        "cache-built": _cache_built_since,
        "ran": _Renaming("results", "stages"),
        "finished": _Renaming("result", "outcome"),
        "cleaned": _Renaming("host", "worker"),
        "env-built": _Renaming("paths", "closure"),
        "env-unpinned": _Renaming("pin", "pin_sequence"),
    }
)
"""From version 1 to version 2."""
_BEFORE: Final[Mapping[str, Change]] = MappingProxyType(
    {
        "submitted": _submitted_before,
        "leased": _leased_before,
        "cache-built": _cache_built_before,
        "ran": _Renaming("stages", "results"),
        "finished": _Renaming("outcome", "result"),
        "cleaned": _Renaming("worker", "host"),
        "env-built": _Renaming("closure", "paths"),
        "env-unpinned": _Renaming("pin_sequence", "pin"),
    }
)


def older(body: bytes, *, numbered: bool = True) -> bytes:
    """Return a body of today as version 1 of its kind has it, without the number if it is not to say it; others as they are."""
    document = json.loads(body)
    if document["kind"] not in _BEFORE:
        return body
    before = {name: value for name, value in _BEFORE[document["kind"]](document).items() if name != "version"}
    return _written(before | ({"version": 1} if numbered else {}))


def newer(body: bytes) -> bytes:
    """Return a body of today as version 2 of its kind has it, byte by byte as that cutor writes it; others as they are."""
    document = json.loads(body)
    return _written(document | {"version": 2}) if document["kind"] in UPCASTERS else body


def _written(document: Document) -> bytes:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


# -- in a process of its own ---------------------------------------------------------------------------------------------


def _import_with_second_versions(name: str) -> None:
    """Import a module of events in which those kinds have version 2."""
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    source = Path(spec.origin).read_text()
    for kind in UPCASTERS:
        header = re.search(rf'^class \w+\(.*tag="{kind}"\):\n    """(?:.|\n)*?"""\n', source, re.MULTILINE)
        if header is not None:
            source = f"{source[: header.end()]}\n    version: int = 2\n{source[header.end() :]}"
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    exec(compile(source, spec.origin, "exec"), module.__dict__)


def _register() -> None:
    for name in ("cutor.model.events", "cutor.model.environments"):
        _import_with_second_versions(name)
    from cutor.model import codec

    codec.UPCASTERS.update({(kind, 1): upcaster for kind, upcaster in UPCASTERS.items()})
    assert {kind for kind, version in codec.VERSIONS.items() if version == 2} == set(UPCASTERS)


def fold(messages: Path, views: Path) -> None:
    """Fold pickled messages, by stream, into a new file of views."""
    from cutor.projections.store import Store

    store = Store.open(views)
    for stream, of_stream in pickle.loads(messages.read_bytes()).items():
        store.apply(stream, of_stream)
    store.close()


async def judge(url: str, submission: str) -> None:
    """Be a builder and a runner until a submission is clean; print the versions of its events."""
    from cutor.bus.connection import Bus
    from cutor.journal.journal import Journal
    from cutor.model.events import Event, Finished, Ran
    from cutor.model.subjects import Address
    from cutor.roles.step import LeasedStep
    from tests import scripted_roles as roles
    from tests.unit.histories import OK

    async def run(leased: LeasedStep) -> None:
        await leased.report(Ran(lease=leased.lease, index=0, stages=(OK, OK)))
        await leased.report(Finished(lease=leased.lease, outcome="OK"))

    def version(event: Event) -> int:
        return event.version

    async with Bus.connect(url, name="judge") as bus:
        journal, address = Journal(bus), Address("default", submission)
        async with roles.role(journal, roles.build), roles.role(journal, run, "runner"):
            state = await roles.until(journal, address, lambda state: state.cleaned_ns is not None)
        print(json.dumps([state.outcome, state.strays, await roles.kinds(journal, address)]))


def golden() -> None:
    """Check that the body of each version 1 is read as the event of today's golden file, and print how many there are."""
    from cutor.model.codec import decode, decode_environment

    for kind in UPCASTERS:
        read = decode_environment if kind.startswith("env-") else decode
        today = newer((GOLDEN / f"{kind}.v1.json").read_bytes())
        assert read((GOLDEN / "second-version" / f"{kind}.v1.json").read_bytes()) == read(today), kind
    print(len(UPCASTERS))


def main() -> None:
    """Do what the command line says."""
    _register()
    match sys.argv[1:]:
        case ["fold", messages, views]:
            fold(Path(messages), Path(views))
        case ["judge", url, submission]:
            asyncio.run(judge(url, submission))
        case ["golden"]:
            golden()
        case _:
            from cutor.cli import main as cutor

            cutor()


if __name__ == "__main__":
    main()
