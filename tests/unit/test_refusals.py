"""What the server refused is remembered for who asks at once, and never without bound."""

import pytest

from cutor.bus.errors import NotPermitted
from cutor.bus.permission import Violation
from cutor.bus.refusals import COMPLAINTS, SUBSCRIPTIONS, Refusals


def denied(number: int) -> Violation:
    return Violation("subscription", f"cutor.ev.default.{number}.leased")


def test_a_refused_subscription_is_told_to_who_confirms_it_whatever_its_case() -> None:
    refusals = Refusals("127.0.0.1:4222")
    refusals.user = "runner"
    refusals.note_subscription(denied(1))
    with pytest.raises(NotPermitted, match=r"does not let the user 'runner' subscribe to cutor\.ev\.default\.1\.LEASED"):
        refusals.check_subscription("cutor.ev.default.1.LEASED")
    refusals.forget_subscription("cutor.ev.default.1.LEASED")
    refusals.check_subscription("cutor.ev.default.1.LEASED")


def test_refused_subscriptions_are_bounded_and_the_newest_stays() -> None:
    """A role that may not hear of leases is refused one for each submission that it serves."""
    refusals = Refusals("127.0.0.1:4222")
    for number in range(3 * SUBSCRIPTIONS):
        refusals.note_subscription(denied(number))
        refusals.note_subscription(denied(number))
    assert len(refusals._subscriptions) == SUBSCRIPTIONS
    refusals.check_subscription(denied(0).subject)
    with pytest.raises(NotPermitted):
        refusals.check_subscription(denied(3 * SUBSCRIPTIONS - 1).subject)


def test_complaints_are_one_of_a_kind_and_bounded(caplog: pytest.LogCaptureFixture) -> None:
    refusals = Refusals("127.0.0.1:4222")
    for _ in range(2):
        for number in range(2 * COMPLAINTS):
            refusals.complain(Violation("publish", f"a.{number}.b.c.d.e"))
            refusals.complain(Violation("publish", f"a.{number}.b.c.d.f"))
    assert len(caplog.records) == COMPLAINTS
