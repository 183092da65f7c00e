"""Networks that builds are kept from: the table, what a container's own routes add to it, and the rules made of both."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_address, ip_network
from typing import Any, Final

import pytest

from cutor.containers.host_config import REFUSE_ARGUMENT
from cutor.nix.inside import network_filter
from cutor.nix.inside.refused_networks import REFUSED, Network, missing_in, neighbours, parse, rules

ROUTES_V4 = """\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t017100CB\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t007100CB\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
"""
ROUTES_V6 = "\n".join(
    f"{to} {length} {'0' * 32} 00 {via} 00000100 00000000 00000000 00000001 {interface:>8}"
    for to, length, via, interface in (
        ("20010db8000100000000000000000000", "40", "0" * 32, "eth0"),
        ("0" * 32, "00", "20010db8000200000000000000000001", "eth0"),
        ("0" * 31 + "1", "80", "0" * 32, "lo"),
        ("0" * 32, "00", "0" * 32, "lo"),
    )
)


def refused(address: str) -> bool:
    wanted = ip_address(address)
    return any(wanted in ip_network(network) for network in REFUSED if ip_network(network).version == wanted.version)


@pytest.mark.parametrize(
    "address",
    [
        *("0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.0.9"),
        *("169.254.169.254", "168.63.129.16", "172.16.0.1", "172.31.255.255", "192.0.0.192", "192.168.1.1", "198.18.0.1"),
        *("198.19.255.255", "192.88.99.1", "224.0.0.251", "239.255.255.250", "240.0.0.1", "255.255.255.255"),
        *("::", "::1", "::ffff:10.0.0.1", "::10.0.0.1", "64:ff9b::a00:1", "64:ff9b:1::1", "100::1", "2001::1", "2001:20::1"),
        *("2002:a00:1::", "5f00::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fec0::1", "ff02::1", "ff0e::1"),
    ],
)
def test_what_is_no_public_address_is_refused(address: str) -> None:
    assert refused(address)


@pytest.mark.parametrize(
    "address",
    [
        *("1.1.1.1", "9.9.9.9", "11.0.0.1", "100.63.255.255", "100.128.0.1", "172.15.0.1", "172.32.0.1", "192.167.0.1"),
        *("151.101.1.91", "223.255.255.255", "2606:4700::1111", "2a04:4e42::729", "2001:200::1", "2003::1", "3fff::1"),
    ],
)
def test_public_addresses_are_not(address: str) -> None:
    assert not refused(address)


def test_whatever_python_knows_as_not_public_is_refused_but_documentation() -> None:
    documentation = [ip_network(text) for text in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32")]
    for first in (*range(0, 1 << 32, 1 << 19), *(upper << 116 for upper in range(1 << 12))):
        address = ip_address(first)
        if not address.is_global and not any(address in network for network in documentation):
            assert refused(str(address)), address


def test_own_networks_and_gateways_come_from_the_kernels_routes() -> None:
    assert neighbours(ROUTES_V4, ROUTES_V6) == (
        ip_network("2001:db8:1::/64"),
        ip_network("2001:db8:2::1/128"),
        ip_network("203.0.113.0/24"),
        ip_network("203.0.113.1/32"),
    )
    assert neighbours("", "") == ()


@pytest.mark.parametrize("routes", [("head\neth0 zz", ""), ("head\neth0 1 2 3", ""), ("", "fd00 1")])
def test_routes_of_another_form_are_an_error_and_not_passed_over(routes: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match=r"."):
        neighbours(*routes)


def test_the_rules_hold_every_network_by_its_family() -> None:
    more: tuple[Network, ...] = parse(("198.51.100.7", "2001:db8::/32"))
    text = rules(more)
    v4, v6 = (line for line in text.splitlines() if " elements = " in line)
    for network in (*REFUSED, *map(str, more)):
        assert f" {network}" in (v6 if ":" in network else v4)
    assert "198.51.100.7/32" in v4


def test_what_is_no_network_is_named() -> None:
    with pytest.raises(ValueError, match=r"10\.0\.0\.1/8 has host bits set"):
        parse(("10.0.0.1/8",))
    with pytest.raises(ValueError, match=r"'1\.1\.1\.1; flush ruleset' does not appear to be"):
        parse(("1.1.1.1; flush ruleset",))


def test_host_and_container_mean_the_same_argument() -> None:
    assert network_filter.ARGUMENT == REFUSE_ARGUMENT


HOOKS: Final = (("output", "accept"), ("input", "drop"))


def refusal(family: str) -> dict[str, Any]:
    """Return a rule that refuses a family's set, as nft 1.1 lists it."""
    payload = {"payload": {"protocol": {"4": "ip", "6": "ip6"}[family], "field": "daddr"}}
    match = {"match": {"op": "==", "left": payload, "right": f"@refused{family}"}}
    return {"rule": {"chain": "output", "expr": [match, {"reject": {"type": "icmp", "expr": "admin-prohibited"}}]}}


ACCEPTED: Final = {"rule": {"chain": "output", "expr": [{"accept": None}]}}


def element(network: Network) -> Any:
    """Return a network as an element of a set: as an address, a prefix, or a range."""
    if network.num_addresses == 1:
        return str(network.network_address)
    if network.num_addresses == 1 << 125:
        return {"range": [str(network[0]), str(network[-1])]}
    return {"prefix": {"addr": str(network.network_address), "len": network.prefixlen}}


def table(networks: Iterable[Network], changes: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
    every = [*map(ip_network, REFUSED), *networks]
    named = {"table": {"family": "inet", "name": "cutor"}}
    chains = [
        {"chain": {"name": name, "type": "filter", "hook": name, "prio": 0, "policy": policy} | (changes or {})}
        for name, policy in HOOKS
    ]
    sets = [
        {"set": {"name": f"refused{version}", "elem": [element(one) for one in every if one.version == version]}}
        for version in (4, 6)
    ]
    arrived = {"rule": {"chain": "input", "expr": [{"accept": None}]}}
    return [named, *chains, *sets, ACCEPTED, ACCEPTED, ACCEPTED, refusal("4"), refusal("6"), arrived]


def listed(objects: Sequence[Mapping[str, Any]]) -> bytes:
    return json.dumps({"nftables": [{"metainfo": {"version": "1.1.7"}}, *objects]}).encode()


def test_a_table_that_has_everything_lacks_nothing() -> None:
    more = parse(("8.8.8.8", "9.9.9.0/24", "2a00::/24"))
    assert missing_in(listed(table(more)), more) is None
    whole = [{"set": {"name": f"refused{version}", "elem": [one]}} for version, one in ((4, "0.0.0.0/0"), (6, "::/0"))]
    assert missing_in(listed([one for one in table(()) if "set" not in one] + whole), more) is None, (
        "more than what was asked for"
    )


@pytest.mark.parametrize("lost", [*REFUSED, "9.9.9.0/24", "2a00::/24"])
def test_every_network_that_a_table_lacks_is_named(lost: str) -> None:
    more = parse(("9.9.9.0/24", "2a00::/24"))
    objects = table(more)
    for one in objects:
        if "set" in one:
            one["set"]["elem"] = [held for held in one["set"]["elem"] if held != element(ip_network(lost))]
    assert missing_in(listed(objects), more) == lost


@pytest.mark.parametrize(
    ("rules_", "lacks"),
    [
        ([ACCEPTED, ACCEPTED, ACCEPTED, refusal("4")], True),
        ([ACCEPTED, ACCEPTED, ACCEPTED, refusal("6")], True),
        ([ACCEPTED, ACCEPTED, ACCEPTED, ACCEPTED, refusal("4"), refusal("6")], True),
        ([], True),
        ([ACCEPTED, ACCEPTED, ACCEPTED, refusal("4"), refusal("6")], False),
    ],
)
def test_the_rules_of_a_table_are_those_that_were_set(rules_: list[dict[str, Any]], lacks: bool) -> None:
    objects = [one for one in table(()) if one.get("rule", {}).get("chain") != "output"]
    assert missing_in(listed([*objects, *rules_]), ()) == ("the rules that refuse, behind those that accept" if lacks else None)


@pytest.mark.parametrize("changes", [{"hook": "forward"}, {"type": "nat"}, {"prio": -300}, {"policy": None}])
def test_a_chain_that_nothing_passes_through_refuses_nothing(changes: dict[str, Any]) -> None:
    assert missing_in(listed(table((), changes)), ()) == "the chain of what is sent"
    assert missing_in(listed([one for one in table(()) if one.get("chain", {}).get("name") != "input"]), ()) == (
        "the chain of what is received"
    )


@pytest.mark.parametrize(
    "listing",
    [
        *(
            b"",
            b"[]",
            b"{}",
            b'{"nftables": [1]}',
            b'{"nftables": [{"chain": {}}]}',
            b'{"nftables": [{"rule": {"chain": "output"}}]}',
        ),
        *(listed([{"set": {"name": "refused4", "elem": [one]}}]) for one in ({"elem": 1}, "x", {"range": ["::", "1.1.1.1"]})),
    ],
)
def test_what_is_no_listing_proves_nothing(listing: bytes) -> None:
    with pytest.raises(ValueError, match="it is no table as nft lists it: "):
        missing_in(listing, ())
