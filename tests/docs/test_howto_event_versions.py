"""The page on versions of events: its pieces of code, put where they belong, make today's event the next version."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec

from cutor.model import codec, events
from tests.docs.snippets import HOW_TO, ROOT, snippets


def test_its_second_version_of_an_event_reads_a_body_of_the_first() -> None:
    of_events, of_codec = snippets(HOW_TO / "event-versions.md", "python")
    event_names: dict[str, Any] = dict(vars(events))
    codec_names: dict[str, Any] = dict(vars(codec))
    exec(compile(of_events.text, "events.py", "exec", dont_inherit=True), event_names)
    exec(compile(of_codec.text, "codec.py", "exec", dont_inherit=True), codec_names)
    old = json.loads((ROOT / "tests" / "golden" / "ran.v1.json").read_text())
    new = codec_names["UPCASTERS"]["ran", 1](dict(old)) | {"version": 2}
    read = msgspec.convert(new, event_names["Ran"])
    assert (read.version, len(read.results)) == (2, len(old["stages"]))
    assert read.results == msgspec.convert(old, events.Ran).stages
    assert not codec.UPCASTERS, "the codec itself is as it was"


def test_the_files_that_it_names_are_there() -> None:
    text = (HOW_TO / "event-versions.md").read_text()
    named = set(re.findall(r"(?:cutor|tests|docs)/[\w/.*-]+\.(?:py|v1\.json)", text))
    assert len(named) >= 10
    assert sorted(name for name in named if not [*ROOT.glob(name)]) == []
