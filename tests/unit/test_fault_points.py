"""The registry of the fault harness: names that mean something, kinds that exist, rounds that leave nothing out."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fault.arming import DIRECTORY, Injected, Order, Points
from tests.fault.page import TITLES, page, words
from tests.fault.points import POINTS, matching, rounds
from tests.fault.submissions import BASIC, KINDS
from tests.fault.wraps import word_of

ROOT = Path(__file__).parents[2]


def test_names_are_there_once_and_are_explained() -> None:
    names = [point.name for point in POINTS]
    assert len(names) == len(set(names)) > 100
    assert {point.role for point in POINTS} == set(TITLES)
    assert all(words(point) for point in POINTS)
    assert all(f"`{name.rpartition('.')[0]}`" in page(POINTS) or f"`{name}`" in page(POINTS) for name in names)


def test_every_kind_that_a_point_needs_is_there() -> None:
    assert {kind for point in POINTS for kind in point.kinds} | set(BASIC) <= set(KINDS)


def test_rounds_hold_every_point_once_and_each_chain_one_role() -> None:
    found = [point for chains in rounds(POINTS) for chain in chains for point in chain]
    assert sorted(point.name for point in found) == sorted(point.name for point in POINTS)
    for chains in rounds(POINTS):
        roles = [{point.role for point in chain} for chain in chains]
        assert all(len(role) == 1 for role in roles)
        assert len(set().union(*roles)) == len(roles)


def test_patterns_choose() -> None:
    assert {point.role for point in matching(["runner.*"])} == {"runner"}
    assert matching(["nothing"]) == []


def test_requests_of_a_kind_are_their_own_and_environments_shared_where_they_are_to_be() -> None:
    for kind in KINDS.values():
        one, other = kind.request("a"), kind.request("b")
        shells = [next(file["content"] for file in request["files"] if file["name"] == "shell.nix") for request in (one, other)]
        assert (shells[0] == shells[1]) is (kind.environment == "shared")


def test_an_order_is_carried_out_once_at_its_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.fault import arming

    monkeypatch.setattr(arming, "_directory", tmp_path)
    points = Points(tmp_path)
    arming.passed("a.b.before")
    points.arm("a.b.before", Order("fail", passing=2))
    arming.passed("a.b.before")
    assert points.armed() == ["a.b.before"]
    with pytest.raises(Injected):
        arming.passed("a.b.before")
    assert points.fired("a.b.before")
    assert points.armed() == []
    arming.passed("a.b.before")
    points.arm("a.b.before", Order("fail", always=True))
    for _ in range(3):
        with pytest.raises(Injected):
            arming.passed("a.b.before")
    points.disarm("a.b.before")
    arming.passed("a.b.before")


@pytest.mark.parametrize(
    ("subject", "body", "word"),
    [
        ("cutor.ev.default.id.leased", b"{}", "append-leased"),
        ("cutor.ev.default.id.cache-built", b"{}", "append-cache-built"),
        ("cutor.env.key", b'{"kind":"env-built","key":"key"}', "append-env-built"),
        ("cutor.env.key", b'{"kind":"env-building","key":"key"}', "append-env-building"),
        ("cutor.body.sha.0", b"data", "append-body"),
        ("cutor.dead.message.EVENTS.7", b"", "append-letter"),
        ("cutor.dead.parked.default.id", b"{}", "append-decision"),
        ("cutor.dead.parked.default.id", b'{"action":"dropped"}', "append-drop"),
        ("cutor.ev.default.id.cleaned", b'{"kind":"cleaned","worker":"w","by":"worker"}', "append-cleaned"),
        ("cutor.ev.default.id.cleaned", b'{"kind":"cleaned","worker":"w","by":"sweep"}', "append-cleaned-by-sweep"),
        ("cutor.ev.default.id.cleaned", b'{"kind":"cleaned","worker":"w","by":"takeover"}', "append-cleaned-by-takeover"),
        ("cutor.ev.default.id.parked", b'{"message":"1 runner lease failed; the last: no"}', "append-parked"),
        ("cutor.ev.default.id.parked", b'{"message":"1 runner lease ended without a result"}', "append-parked-by-step"),
        ("cutor.ev.default.id.parked", b'{"message":"5 deliveries to a runner failed; the"}', "append-parked-by-poison"),
        ("$JS.API.CONSUMER.CREATE.EVENTS.runner-default", b"{}", "consumer-apply"),
        ("$JS.API.CONSUMER.RESET.EVENTS.runner-default", b"{}", "consumer-reset"),
        ("$JS.ACK.EVENTS.runner-default.1.2.3.4.5", b"+TERM a reason", "term"),
        ("cutor.stack.policy", b"{}", "publish-policy"),
        ("$JS.API.STREAM.CREATE.EVENTS", b"{}", "stream-apply"),
        ("$JS.API.STREAM.INFO.EVENTS", b"", None),
        ("$JS.ACK.EVENTS.runner-default.1.2.3.4.5", b"+ACK", "ack"),
        ("$JS.ACK.EVENTS.runner-default.1.2.3.4.5", b'-NAK {"delay": 1000000}', "nak"),
        ("$JS.ACK.EVENTS.runner-default.1.2.3.4.5", b"+WPI", "heartbeat"),
        ("_INBOX.x", b"", None),
    ],
)
def test_what_is_sent_is_known_by_its_subject(subject: str, body: bytes, word: str | None) -> None:
    assert word_of(subject, body) == word


def test_a_point_in_foreign_code_is_passed_while_that_works(tmp_path: Path) -> None:
    """At the pass that was ordered, and at no other."""
    Points(tmp_path).arm("p", Order("kill", passing=2))
    program = (
        "import time; from tests.fault.arming import soon\n"
        "for turn in range(3):\n"
        "    print(turn, flush=True); soon('p'); time.sleep(turn * 60)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {DIRECTORY: str(tmp_path)},
        capture_output=True,
        check=False,
        text=True,
    )
    assert (done.returncode, done.stdout.split()) == (-signal.SIGKILL, ["0", "1"])
