"""The time that the stages of a submission share."""

import msgspec

from cutor.model.budget import WallTimeBudget
from cutor.model.events import Stage
from cutor.model.limits import DEFAULT_LIMITS

LIMIT = msgspec.structs.replace(DEFAULT_LIMITS.run.default, wall_time_ms=1000)


def test_a_stage_gets_its_own_limit_while_that_much_is_left_and_then_what_is_left() -> None:
    budget = WallTimeBudget(1500)
    assert budget.limit(LIMIT) == LIMIT
    after_one = budget.after(Stage(outcome="OK", wall_time_ms=700))
    assert (after_one.left_ms, after_one.limit(LIMIT).wall_time_ms) == (800, 800)
    spent = after_one.after(Stage(outcome="OK", wall_time_ms=900))
    assert (spent.left_ms, spent.limit(LIMIT).wall_time_ms) == (0, 1)
    assert budget.after(Stage(outcome="XX")) == budget


def test_what_holds_the_slot_around_a_stage_is_counted_too() -> None:
    stage = Stage(outcome="OK", wall_time_ms=2)
    assert WallTimeBudget(1500).after(stage, took_ms=900).left_ms == 600
    assert WallTimeBudget(1500).after(stage, took_ms=1).left_ms == 1498


def test_a_stage_that_the_budget_ended_says_so_and_one_that_its_own_limit_ended_does_not() -> None:
    late = Stage(outcome="TLE_WALL", message="took longer than 800 ms")
    assert WallTimeBudget(1500).explained(late, LIMIT) == late
    message = "the submission's compile and run stages together took longer than 1500 ms"
    assert WallTimeBudget(1500, 700).explained(late, LIMIT).message == message
    failed = Stage(outcome="RE", exit_code=1)
    assert WallTimeBudget(1500, 700).explained(failed, LIMIT) == failed
