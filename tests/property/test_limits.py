"""Limits for any policy and any request: what is applied, what is refused, and that no way of writing them changes them."""

from __future__ import annotations

import json
import tomllib
from random import Random
from typing import Any, Final

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cutor.config import LEAST_BOUNDS, LIMIT_CEILINGS, Config, InvalidConfig, parse
from cutor.errors import REFUSED
from cutor.model.budget import WallTimeBudget
from cutor.model.codec import decode_policy, encode
from cutor.model.errors import InvalidRequest
from cutor.model.events import Stage
from cutor.model.limits import (
    BOUND_CEILINGS,
    DEFAULT_LIMITS,
    MAX_LIMIT,
    STAGE_KINDS,
    UNITS,
    Bounds,
    Limit,
    LimitPolicies,
    LimitPolicy,
    Policy,
    RequestedLimit,
    RequestedLimits,
    StageKind,
    check_policy,
    requested_limits,
    resolve,
    resolve_all,
    stored_limits,
)

small = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
numbers = st.integers(1, 100) | st.integers(1, MAX_LIMIT) | st.sampled_from([1, 2, MAX_LIMIT - 1, MAX_LIMIT])
kinds: st.SearchStrategy[StageKind] = st.sampled_from(STAGE_KINDS)


limits = st.builds(Limit, **dict.fromkeys(UNITS, numbers))


def number(random: Random, most: int = MAX_LIMIT) -> int:
    """Return a number up to a maximum, which is often drawn itself, like the smallest and small ones."""
    return random.choice([1, most, random.randint(1, most), random.randint(1, min(most, 100))])


def stage_policy(random: Random) -> LimitPolicy:
    """Return a default and a maximum that go together."""
    maximum = {name: number(random, LIMIT_CEILINGS.get(name, MAX_LIMIT)) for name in UNITS}
    return LimitPolicy(
        default=Limit(**{name: number(random, most) for name, most in maximum.items()}), maximum=Limit(**maximum)
    )


def bound(random: Random, name: str) -> int:
    return max(number(random, BOUND_CEILINGS.get(name, MAX_LIMIT)), LEAST_BOUNDS.get(name, 1))


def policy_of(random: Random) -> Policy:
    """Return a policy that can work. A policy has seventy numbers: drawn one by one, they would take all of the time."""
    tenants = ["default", "a", "-", "x" * 32, "interactive-9", "0"]
    return Policy(
        limits=LimitPolicies(**{kind: stage_policy(random) for kind in STAGE_KINDS}),
        bounds=Bounds(**{name: bound(random, name) for name in Bounds.__struct_fields__}),
        tenants={tenant: number(random) for tenant in random.sample(tenants, random.randint(1, 4))},
        max_leases=number(random),
    )


seeds = st.integers(0, 1 << 64).map(Random)
stage_policies = seeds.map(stage_policy)
policies = seeds.map(policy_of)
asked = (
    st.none() | st.integers(-3, 3) | numbers | st.integers() | st.sampled_from([0, MAX_LIMIT + 1, 1 << 64, 10**400, -(10**400)])
)


@st.composite
def asked_under(draw: st.DrawFn, policy: LimitPolicy) -> RequestedLimit:
    """What may be asked for: what is allowed, but for one limit or two, which may be anything, mostly near an edge."""
    requested = {name: draw(st.none() | st.integers(1, getattr(policy.maximum, name))) for name in UNITS}
    for name in draw(st.lists(st.sampled_from(list(UNITS)), max_size=2)):
        maximum = getattr(policy.maximum, name)
        requested[name] = draw(st.sampled_from([0, -1, 1, maximum - 1, maximum, maximum + 1]) | asked)
    return RequestedLimit(**requested)


def refused(requested: RequestedLimit, policy: LimitPolicy) -> dict[str, int]:
    """Return what of a request must be refused."""
    values: dict[str, int | None] = {name: getattr(requested, name) for name in UNITS}
    return {
        name: value for name, value in values.items() if value is not None and not 0 < value <= getattr(policy.maximum, name)
    }


def check_refusal(message: str, kind: StageKind, bad: dict[str, int], policy: LimitPolicy) -> None:
    """One of what is bad is named, with its value, the maximum and the unit, in one line of bounded length."""
    told = [name for name in bad if message.startswith(f"limits.{kind}.{name} is ")]
    assert len(told) == 1, message
    value, maximum = bad[told[0]], getattr(policy.maximum, told[0])
    bits = "more than 10000" if value.bit_length() > 10_000 else str(value.bit_length())
    size = f" a {'negative ' if value < 0 else ''}number of {bits} bits: "
    assert (f" {value}: " if abs(value) < 10**40 else size) in message
    assert message.endswith(f" {maximum} {UNITS[told[0]]}")
    assert message.isprintable()
    assert len(message) < 200


@small
@given(kinds, st.data())
def test_what_is_applied_was_asked_for_or_is_the_default_and_nothing_else_is_refused(
    kind: StageKind, data: st.DataObject
) -> None:
    policy = data.draw(stage_policies)
    requested = data.draw(asked_under(policy))
    bad = refused(requested, policy)
    if bad:
        with pytest.raises(InvalidRequest) as error:
            resolve(kind, requested, policy)
        check_refusal(str(error.value), kind, bad, policy)
        return
    applied = resolve(kind, requested, policy)
    for name in UNITS:
        wanted, value = getattr(requested, name), getattr(applied, name)
        assert value == (getattr(policy.default, name) if wanted is None else wanted)
        assert 0 < value <= getattr(policy.maximum, name)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("name", UNITS)
def test_a_number_that_python_does_not_write_is_refused_by_its_size(name: str, sign: int) -> None:
    requested = RequestedLimit(**{name: sign * 10**5000})
    with pytest.raises(InvalidRequest) as error:
        resolve("run", requested, DEFAULT_LIMITS.run)
    check_refusal(str(error.value), "run", {name: sign * 10**5000}, DEFAULT_LIMITS.run)


@settings(small, max_examples=40)
@given(policies, st.data())
def test_every_stage_is_resolved_by_itself(policy: Policy, data: st.DataObject) -> None:
    requested = RequestedLimits(**{kind: data.draw(asked_under(getattr(policy.limits, kind))) for kind in STAGE_KINDS})
    bad = [kind for kind in STAGE_KINDS if refused(getattr(requested, kind), getattr(policy.limits, kind))]
    if bad:
        with pytest.raises(InvalidRequest, match=rf"^limits\.({'|'.join(bad)})\."):
            resolve_all(requested, policy.limits)
        return
    applied = resolve_all(requested, policy.limits)
    assert applied == {kind: resolve(kind, getattr(requested, kind), getattr(policy.limits, kind)) for kind in STAGE_KINDS}


requests = st.builds(
    RequestedLimits,
    **dict.fromkeys(
        STAGE_KINDS, st.builds(RequestedLimit, **dict.fromkeys(UNITS, st.none() | st.integers(-(2**63), 2**64 - 1)))
    ),
)


@small
@given(requests)
def test_what_is_asked_for_is_in_the_event_and_nothing_else(requested: RequestedLimits) -> None:
    stored = stored_limits(requested)
    assert requested_limits(stored) == requested
    assert requested_limits(msgspec.json.decode(msgspec.json.encode(stored), type=dict[str, dict[str, int]])) == requested
    assert all(values and None not in values.values() for values in stored.values())


@small
@given(policies)
def test_a_published_policy_is_read_as_what_it_is(policy: Policy) -> None:
    check_policy(policy)
    body = encode(policy)
    assert decode_policy(body) == policy
    newer = json.loads(body) | {"wishes": [1], "version": 2}
    newer["bounds"]["of_a_newer_stack"] = 5
    newer["limits"]["run"]["default"]["of_a_newer_stack"] = 5
    assert decode_policy(json.dumps(newer).encode()) == msgspec.structs.replace(policy, version=2)


@small
@given(st.integers(1, 10**6), st.lists(st.integers(0, 10**6), max_size=6), limits)
def test_stages_share_a_budget_that_no_stage_adds_to(total_ms: int, taken_ms: list[int], limit: Limit) -> None:
    budget = WallTimeBudget(total_ms)
    for wall_time_ms in taken_ms:
        given_ms = budget.limit(limit).wall_time_ms
        assert given_ms == max(1, min(limit.wall_time_ms, budget.left_ms))
        assert 0 <= budget.left_ms <= total_ms
        after = budget.after(Stage(outcome="OK", wall_time_ms=wall_time_ms))
        assert after.left_ms == max(budget.left_ms - wall_time_ms, 0)
        budget = after


# the configuration


def toml(document: dict[str, Any]) -> bytes:
    """Return a document in TOML, its tables inline."""
    return "".join(f"{_key(key)} = {_value(value)}\n" for key, value in document.items()).encode()


def _key(key: str) -> str:
    return json.dumps(key).replace("\x7f", "\\u007f")


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_key(key)} = {_value(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, bool):
        return "true" if value else "false"
    return _digits(value) if isinstance(value, int) else repr(value)


def _digits(value: int) -> str:
    """Return a whole number in TOML; Python writes no long one in decimal, and TOML has no sign before hexadecimal."""
    return str(value) if abs(value) < 10**4000 else hex(abs(value))


def configured(policy: Policy) -> dict[str, Any]:
    """Return the configuration that asks for a policy."""
    document: dict[str, Any] = msgspec.to_builtins(policy)
    del document["version"], document["versions"]
    return document


@small
@given(policies)
def test_a_configuration_gives_the_policy_that_it_asks_for(policy: Policy) -> None:
    raw = toml(configured(policy))
    assert tomllib.loads(raw.decode()) == configured(policy)
    assert parse(raw, "c.toml").policy() == policy


@small
@given(policies, st.data())
def test_what_a_configuration_leaves_out_is_built_in(policy: Policy, data: st.DataObject) -> None:
    """But a built-in default gives way to a lower maximum."""
    document = configured(policy)
    left_out = data.draw(st.sets(st.sampled_from([(kind, name) for kind in STAGE_KINDS for name in UNITS])))
    for kind, name in left_out:
        del document["limits"][kind]["default"][name]
    found = parse(toml(document), "c.toml").policy()
    for kind in STAGE_KINDS:
        wanted, applied = getattr(policy.limits, kind), getattr(found.limits, kind)
        assert applied.maximum == wanted.maximum
        for name in UNITS:
            built_in = min(getattr(getattr(DEFAULT_LIMITS, kind).default, name), getattr(wanted.maximum, name))
            expected = built_in if (kind, name) in left_out else getattr(wanted.default, name)
            assert getattr(applied.default, name) == expected
    assert (found.bounds, found.tenants, found.max_leases) == (policy.bounds, policy.tenants, policy.max_leases)


strings = st.text(max_size=8) | st.sampled_from(["/", "~/x", "cutor-child:latest", "unix:///x", "\x1b[2J", "\0", "x" * 4000])
scalars = (
    st.booleans()
    | asked.filter(lambda value: value is not None)
    | st.floats()
    | strings
    | st.sampled_from([10**400, -(10**400)])
)
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(strings, inner, max_size=3), max_leaves=5
)
FIELDS: Final = {
    "": (
        "data_directory",
        "max_leases",
        "tenants",
        "limits",
        "bounds",
        "server",
        "docker",
        "nix",
        "builder",
        "runner",
        "projector",
    ),
    "bounds": Bounds.__struct_fields__,
    "server": ("url", "port", "streams"),
    "docker": ("host", "image"),
    "nix": ("image", "nix_path", "cores", "network", "allowed_uris", "restrict_eval", "system", "start_timeout_ms"),
    "builder": ("slots",),
    "runner": ("slots", "uid_base"),
    "projector": ("database",),
    "tenants": ("default", "batch", "UPPER", ""),
}


@st.composite
def strange(draw: st.DrawFn) -> dict[str, Any]:
    """A configuration of keys that exist, mostly, with values that fit, now and then."""
    document: dict[str, Any] = {}
    for _ in range(draw(st.integers(0, 4))):
        table = draw(st.sampled_from([*FIELDS, "limits"]))
        value = draw(anything)
        if table == "limits":
            kind, which = draw(st.sampled_from([*STAGE_KINDS, "link"])), draw(st.sampled_from(["default", "maximum", "most"]))
            document["limits"] = {kind: {which: {draw(st.sampled_from([*UNITS, "memory"])): value}}}
        elif table:
            document[table] = {draw(st.sampled_from(FIELDS[table]) | strings): value}
        else:
            document[draw(st.sampled_from(FIELDS[""]) | strings)] = value
    return document


def check_config(raw: bytes) -> Config | None:
    """Return a configuration that can work, or null for one that is refused in one plain line."""
    try:
        config = parse(raw, "/etc/cutor.toml")
    except InvalidConfig as error:
        message = str(error)
        assert message.startswith("/etc/cutor.toml: ")
        assert message.isprintable(), ascii(message)
        assert len(message) <= 400
        assert error.exit_code == REFUSED
        return None
    check_policy(config.policy())
    assert decode_policy(encode(config.policy())) == config.policy()
    return config


@settings(small, max_examples=200)
@given(strange())
def test_any_configuration_works_or_is_refused_in_one_line(document: dict[str, Any]) -> None:
    check_config(toml(document))


GOOD: Final = b'max_leases = 3\n[limits.run.default]\nwall_time_ms = 2000\n[tenants]\ndefault = 1\n"batch" = 2\n'


@settings(small, max_examples=400)
@given(st.binary(max_size=30) | st.text(max_size=20).map(str.encode), st.data())
def test_any_bytes_within_a_configuration_work_or_are_refused_in_one_line(noise: bytes, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(GOOD)))
    end = data.draw(st.integers(start, len(GOOD)))
    check_config(GOOD[:start] + noise + GOOD[end:])


@pytest.mark.parametrize(
    "raw",
    [
        b"max_leases = " + b"9" * 5000,
        b"max_leases = " + b"[" * 5000,
        b"max_leases = 2020-13-45",
        b'data_directory = "/\\u0000"',
        b"a" * 5000 + b" = 1",
        b'"\\u001b[2J" = 1',
        b'[tenants]\n"\\u001b[2J" = 1',
        b"[tenants]\n" + b"x" * 5000 + b" = 1",
        b'data_directory = "' + b"x" * 5000 + b'"',
        b"[limits.run.maximum]\nmemory_bytes = 0x" + b"f" * 5000,
        b"[limits.run.maximum]\nmemory_bytes = 4611686018427387905",
        b"[limits.run.default]\nmemory_bytes = -1" + b"0" * 4000,
        b"[bounds]\nfiles = 0x" + b"f" * 5000,
        b"[tenants]\ndefault = 0x" + b"f" * 5000,
        b"[nix]\ncores = 0x" + b"f" * 5000,
        b"[nix]\nimage = " + b'"x' + b" " * 5000 + b'"',
    ],
)
def test_configurations_made_to_hurt_are_refused(raw: bytes) -> None:
    assert check_config(raw) is None
