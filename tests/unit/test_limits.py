"""Limits: what is asked for, what the deployer allows, what is applied."""

import json

import msgspec
import pytest

from cutor.bus.bodies import MAX_BYTES
from cutor.client.client import REQUEST_JSON_BYTES
from cutor.config import InvalidConfig, parse
from cutor.jail.inside.protocol import MAX_BODY_BYTES, MAX_HEADER_BYTES, encode
from cutor.model.errors import InvalidPolicy, InvalidRequest
from cutor.model.limits import (
    BOUND_CEILINGS,
    DEFAULT_LIMITS,
    ESCAPE_BYTES,
    HANDED_TEXT_BYTES,
    MAX_REQUEST_BYTES,
    MIB,
    UNITS,
    Bounds,
    LimitPolicy,
    Policy,
    RequestedLimit,
    RequestedLimits,
    check_policy,
    requested_limits,
    resolve,
    resolve_all,
    stored_limits,
)
from cutor.nix.inside.derivation import MAX_PATH_BYTES
from cutor.nix.inside.store import MAX_CLOSURE_PATHS
from cutor.nix.inside.variables import MAX_TOTAL_BYTES


def test_an_omitted_limit_takes_the_default() -> None:
    assert resolve("run", RequestedLimit(), DEFAULT_LIMITS.run) == DEFAULT_LIMITS.run.default


def test_a_limit_asked_for_is_applied_up_to_the_maximum_itself() -> None:
    maximum = DEFAULT_LIMITS.run.maximum.memory_bytes
    assert resolve("run", RequestedLimit(memory_bytes=maximum), DEFAULT_LIMITS.run).memory_bytes == maximum


@pytest.mark.parametrize("name", UNITS)
@pytest.mark.parametrize("value", [0, -1])
def test_zero_and_negative_are_refused_with_field_value_maximum_and_unit(name: str, value: int) -> None:
    maximum = getattr(DEFAULT_LIMITS.run.maximum, name)
    with pytest.raises(InvalidRequest) as error:
        resolve("run", RequestedLimit(**{name: value}), DEFAULT_LIMITS.run)
    assert str(error.value) == f"limits.run.{name} is {value}: it must be from 1 to {maximum} {UNITS[name]}"


@pytest.mark.parametrize("name", UNITS)
def test_more_than_the_maximum_is_refused_with_field_value_maximum_and_unit(name: str) -> None:
    maximum = getattr(DEFAULT_LIMITS.compile.maximum, name)
    with pytest.raises(InvalidRequest) as error:
        resolve("compile", RequestedLimit(**{name: maximum + 1}), DEFAULT_LIMITS.compile)
    assert str(error.value) == f"limits.compile.{name} is {maximum + 1}: more than the maximum of {maximum} {UNITS[name]}"


def test_every_stage_kind_has_its_own_limits() -> None:
    asked = RequestedLimits(compile=RequestedLimit(memory_bytes=1 << 20), run=RequestedLimit(memory_bytes=2 << 20))
    applied = resolve_all(asked, DEFAULT_LIMITS)
    assert (applied["compile"].memory_bytes, applied["run"].memory_bytes) == (1 << 20, 2 << 20)
    assert applied["dependencies"] == DEFAULT_LIMITS.dependencies.default


def test_an_event_holds_only_what_was_asked_for_and_reads_what_it_does_not_know() -> None:
    asked = RequestedLimits(run=RequestedLimit(open_files=7))
    assert stored_limits(asked) == {"run": {"open_files": 7}}
    assert requested_limits({"run": {"open_files": 7, "threads": 3}, "link": {"x": 1}}) == asked
    assert stored_limits(requested_limits({"run": {"open_files": 7}})) == {"run": {"open_files": 7}}
    assert stored_limits(requested_limits({})) == {}


def test_the_default_policy_holds_together() -> None:
    check_policy(Policy())


def with_default(**values: int) -> Policy:
    stage = LimitPolicy(
        default=msgspec.structs.replace(DEFAULT_LIMITS.run.default, **values), maximum=DEFAULT_LIMITS.run.maximum
    )
    return Policy(limits=msgspec.structs.replace(DEFAULT_LIMITS, run=stage))


@pytest.mark.parametrize(
    ("policy", "named"),
    [
        (with_default(memory_bytes=1 << 50), "limits.run: the default memory_bytes"),
        (with_default(processes=0), "limits.run: processes must be positive"),
        (Policy(bounds=Bounds(files=0)), "bounds.files must be positive"),
        (Policy(tenants={"default": 0}), "tenants.default: the weight must be positive"),
        (Policy(max_leases=0), "max_leases must be positive"),
    ],
)
def test_a_policy_that_cannot_work_names_the_setting(policy: Policy, named: str) -> None:
    with pytest.raises(InvalidPolicy, match=named.replace(".", r"\.")):
        check_policy(policy)


@pytest.mark.parametrize("name", BOUND_CEILINGS)
def test_a_bound_beyond_what_reaches_a_container_is_refused_with_setting_value_maximum_and_unit(name: str) -> None:
    most = BOUND_CEILINGS[name]
    check_policy(Policy(bounds=Bounds(**{name: most})))
    with pytest.raises(InvalidPolicy) as error:
        check_policy(Policy(bounds=Bounds(**{name: most + 1})))
    assert str(error.value) == f"bounds.{name} {most + 1} is more than {most} bytes, the most there can be"


def test_the_largest_request_that_can_be_configured_is_carried_all_the_way() -> None:
    """As JSON in base64, as one content, and in the one frame in which a container is handed files, closure and variables."""
    others_bytes = MAX_CLOSURE_PATHS * (MAX_PATH_BYTES + 1) + MAX_TOTAL_BYTES
    assert MAX_REQUEST_BYTES * 4 // 3 <= REQUEST_JSON_BYTES
    assert MAX_REQUEST_BYTES <= MAX_BYTES
    assert MAX_REQUEST_BYTES + others_bytes <= MAX_BODY_BYTES


def test_the_most_arguments_that_can_be_configured_fit_the_header_of_their_stage() -> None:
    """Whatever their characters are: the longest in JSON, the shortest, or none at all."""
    most_bytes = BOUND_CEILINGS["arg_bytes"]
    assert len(json.dumps("\x01")) - 2 == ESCAPE_BYTES
    for args in (["\x01" * (most_bytes - 1)], ["\x01"] * (most_bytes // 2), [""] * most_bytes):
        assert sum(len(arg) + 1 for arg in args) == most_bytes
        assert len(encode({"args": args})) <= HANDED_TEXT_BYTES + 100
    assert HANDED_TEXT_BYTES + 64 * 1024 <= MAX_HEADER_BYTES == MIB


def test_the_configuration_of_bounds_is_strict_although_a_published_policy_is_read_tolerantly() -> None:
    assert parse(b"[bounds]\ntest_case_name_bytes = 9\n", "c").bounds.test_case_name_bytes == 9
    with pytest.raises(InvalidConfig, match="bounds: unknown key `wishes`"):
        parse(b"[bounds]\nwishes = 3\n", "c")
