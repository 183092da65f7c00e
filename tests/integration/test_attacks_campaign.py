"""What makes `make attacks` fail, on a real stack: a wrong outcome, a neighbour's verdict that changed, a word in an output."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from cutor import Client
from tests.attacks import campaign as module
from tests.attacks.attack import Attack, Kill, parse_attack
from tests.attacks.campaign import Campaign, Verdict
from tests.attacks.neighbours import NEIGHBOURS, Neighbour
from tests.attacks.stack import AttackedStack
from tests.live_stack import Stack

FAILS = next(neighbour for neighbour in NEIGHBOURS if neighbour.name == "one that fails")


@pytest.fixture
async def campaign(stack: Stack) -> AsyncIterator[Campaign]:
    """A campaign on the stack of all tests. No attack here kills: what is attacked needs no process of its own."""
    async with Client(stack.server) as client:
        yield Campaign(AttackedStack(Path(stack.data).parent, secrets.token_hex(8), 0), client, crowd=1)


def attack(text: str, **header: object) -> Attack:
    return msgspec.structs.replace(parse_attack("test/planted.sh", f"#: what = 'planted'\n{text}\n"), **header)


async def alone(campaign: Campaign, *attacks: Attack) -> list[Verdict]:
    shown: list[Verdict] = []
    assert await campaign.alone(attacks, shown.append, at_once=2) == shown
    return shown


async def test_what_must_be_is_no_difference(campaign: Campaign) -> None:
    [verdict] = await alone(campaign, attack("exit 3", outcome=("RUN_ERROR",), run=("RE",), exit_code=3))
    assert (verdict.expected, verdict.got, verdict.differences) == ("run RE", "run RE", ())


async def test_a_wrong_outcome_and_a_word_that_must_not_be_are_differences(campaign: Campaign) -> None:
    verdicts = await alone(campaign, attack("exit 3"), attack("echo REACHED the host", lacks=("REACHED",)))
    lines = [line for verdict in verdicts for line in verdict.differences]
    assert any(line.startswith("outcome: RUN_ERROR is not OK") for line in lines)
    assert any(line.startswith("an output holds 'REACHED'") for line in lines)
    assert all(verdict.differences for verdict in verdicts)


async def test_an_attack_that_is_not_refused_differs(campaign: Campaign) -> None:
    [verdict] = await alone(campaign, attack("true", refused="no such file name"))
    assert verdict.differences == ("the client took it",)


@pytest.mark.parametrize("changed", [False, True])
async def test_a_neighbours_verdict_that_changed_is_a_difference(
    campaign: Campaign, monkeypatch: pytest.MonkeyPatch, changed: bool
) -> None:
    neighbour: Neighbour = FAILS._replace(outcome="OK", stages=("OK", "OK")) if changed else FAILS
    monkeypatch.setattr(module, "NEIGHBOURS", (neighbour,))
    shown: list[Verdict] = []
    verdicts = await campaign.beside([attack("true")], shown.append)
    assert verdicts == shown
    assert [(verdict.name, bool(verdict.differences)) for verdict in verdicts] == [
        ("test/planted.sh", False),
        ("beside: one that fails", changed),
    ]


async def test_an_attack_that_can_not_be_handed_in_is_not_waited_for_to_kill(campaign: Campaign) -> None:
    kills = attack("true", kill=Kill(process="runner", at="leased runner"), files={"../up": ""})
    verdicts = await asyncio.wait_for(alone(campaign, kills, attack("true")), 180)
    assert [verdict.got for verdict in verdicts] == ["not ended", "OK"]
    assert verdicts[0].differences


async def test_a_crowds_verdicts_count_for_the_attack_among_them(campaign: Campaign, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "NEIGHBOURS", (FAILS._replace(outcome="OK", stages=("OK", "OK")),))
    [verdict] = await alone(campaign, attack("true", crowd=1))
    assert [line.partition(":")[0] for line in verdict.differences] == ["one that fails"]
