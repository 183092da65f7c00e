"""Which networks a build may never reach, and the rules of nftables that say so. Pure.

Refused is what no public server has: everything private, link-local, shared, looped back, mapped, multicast or reserved (IANA's
registries of special-purpose addresses), the networks that the container itself is in, its gateways, and what the deployer and
the role name. What is left is the Internet, the machine's own public addresses included. Prefixes for documentation are left
alone: nobody has them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    collapse_addresses,
    ip_address,
    ip_network,
    summarize_address_range,
)
from typing import Any, Final

Network = IPv4Network | IPv6Network

REFUSED: Final[dict[str, str]] = {
    "0.0.0.0/8": "this network",
    "10.0.0.0/8": "private",
    "100.64.0.0/10": "shared with a provider's other customers; metadata services",
    "127.0.0.0/8": "loopback, should it ever leave the machine",
    "168.63.129.16/32": "a public address behind which a cloud hides services for its machines",
    "169.254.0.0/16": "link-local; metadata services",
    "172.16.0.0/12": "private",
    "192.0.0.0/24": "protocols; metadata services",
    "192.88.99.0/24": "relays from 6to4",
    "192.168.0.0/16": "private",
    "198.18.0.0/15": "benchmarks of networks",
    "224.0.0.0/4": "multicast",
    "240.0.0.0/4": "reserved; broadcast",
    "::/3": "loopback, addresses that stand for others (mapped, translated by NAT64), and reserved",
    "2001::/23": "protocols: tunnels of Teredo, hashes, benchmarks",
    "2002::/16": "tunnels of 6to4, to any IPv4 address",
    "4000::/2": "reserved; segment routing",
    "8000::/1": "private (ULA), link-local, site-local, multicast, and reserved",
}
"""Networks and why. Of IPv6 that is all but 2000::/3, which alone is given to hosts of the Internet, and tunnels in it."""

_RULES: Final = """\
table inet cutor {{
  set refused4 {{ type ipv4_addr; flags interval; auto-merge; elements = {{ {v4} }} }}
  set refused6 {{ type ipv6_addr; flags interval; auto-merge; elements = {{ {v6} }} }}
  chain output {{
    type filter hook output priority filter; policy accept;
    oifname "lo" accept comment "Docker's resolver at 127.0.0.11 among it"
    meta skuid 0 meta l4proto {{ tcp, udp }} th dport 53 accept comment "what Docker's resolver asks: no build is uid 0"
    icmpv6 type {{ nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert }} ip6 hoplimit 255 accept
    ip daddr @refused4 reject with icmp admin-prohibited
    ip6 daddr @refused6 reject with icmpv6 admin-prohibited
  }}
  chain input {{
    type filter hook input priority filter; policy drop;
    iifname "lo" accept
    ct state established,related accept
    icmpv6 type {{ nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert }} ip6 hoplimit 255 accept
  }}
}}
"""
"""What a build sends is looked at on its way out, so a socket that is bound to an interface is no way round: a table of routes
would not stop it. What others send to it, unasked, is dropped."""

ACCEPTED_BEFORE: Final = 3
"""Rules that accept, at the head of the chain of what is sent."""


def rules(networks: Iterable[Network]) -> str:
    """Return the rules as ``nft -f`` takes them: `REFUSED` and ``networks`` are refused, neighbours can't call."""
    every = _with_usual(networks)
    v4, v6 = (", ".join(sorted({str(network) for network in every if network.version == version})) for version in (4, 6))
    return _RULES.format(v4=v4, v6=v6)


def _with_usual(networks: Iterable[Network]) -> list[Network]:
    return [*map(ip_network, REFUSED), *networks]


def missing_in(listing: bytes, networks: Iterable[Network]) -> str | None:
    """Return what a table in the kernel lacks of `rules` for ``networks``, null where it is all there.

    ``listing`` is the table as ``nft -j list table inet cutor`` prints it (libnftables-json(5)). What is accepted before
    anything is refused is counted, not compared. Raises ValueError for what is no such listing.
    """
    try:
        objects = json.loads(listing)["nftables"]
        chains = {one["chain"]["name"]: one["chain"] for one in objects if "chain" in one}
        sets = {one["set"]["name"]: one["set"].get("elem", ()) for one in objects if "set" in one}
        refusals = [_refusal(one["rule"]["expr"]) for one in objects if one.get("rule", {}).get("chain") == "output"]
        return _missing(
            chains, {name: _collapsed(elements) for name, elements in sets.items()}, refusals, _with_usual(networks)
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"it is no table as nft lists it: {error}") from error


def _missing(
    chains: Mapping[str, Any],
    sets: Mapping[str, Sequence[Network]],
    refusals: Sequence[str | None],
    networks: Sequence[Network],
) -> str | None:
    for name, policy in (("output", "accept"), ("input", "drop")):
        found = chains.get(name, {})
        if (found.get("type"), found.get("hook"), found.get("prio"), found.get("policy")) != ("filter", name, 0, policy):
            return f"the chain of what is {'sent' if name == 'output' else 'received'}"
    if refusals != [None] * ACCEPTED_BEFORE + ["ip @refused4", "ip6 @refused6"]:
        return "the rules that refuse, behind those that accept"
    for network in networks:
        held = sets.get(f"refused{network.version}", ())
        if not any(network.subnet_of(one) for one in held if one.version == network.version):  # type: ignore[arg-type] # same version
            return str(network)
    return None


def _refusal(expressions: Sequence[Mapping[str, Any]]) -> str | None:
    """Return the protocol and the set whose addresses a rule refuses, null for another rule."""
    match expressions:
        case [
            {"match": {"op": "==", "left": {"payload": {"protocol": protocol, "field": "daddr"}}, "right": right}},
            {"reject": _},
        ]:
            return f"{protocol} {right}"
    return None


def _collapsed(elements: Iterable[Any]) -> Sequence[Network]:
    found: dict[int, list[Any]] = {4: [], 6: []}
    for element in elements:
        for network in _networks_of(element):
            found[network.version].append(network)
    return [*collapse_addresses(found[4]), *collapse_addresses(found[6])]


def _networks_of(element: Any) -> Iterable[Network]:
    """Return what an element of a set holds: an address, a network, or a range of addresses."""
    match element:
        case str():
            return (ip_network(element),)
        case {"prefix": {"addr": str(address), "len": int(length)}}:
            return (ip_network(f"{address}/{length}"),)
        case {"range": [str(first), str(last)]}:
            return summarize_address_range(ip_address(first), ip_address(last))
    raise ValueError(f"no element of a set of addresses: {element!r}")


def parse(texts: Iterable[str]) -> tuple[Network, ...]:
    """Return networks, or single addresses, in their usual notation. Raises ValueError that names the first that is none."""
    return tuple(ip_network(text) for text in texts)


def neighbours(routes_v4: str, routes_v6: str) -> tuple[Network, ...]:
    """Return the networks that a host is in, and its gateways: from ``/proc/net/route`` and ``/proc/net/ipv6_route``.

    Raises ValueError for texts of another form.
    """
    return tuple(sorted({*_of_v4(routes_v4.splitlines()[1:]), *_of_v6(routes_v6.splitlines())}, key=str))


def _of_v4(lines: Sequence[str]) -> Iterator[Network]:
    for line in lines:
        _interface, to, gateway, _flags, _count, _use, _metric, mask, *_ = line.split()
        if _little_endian(gateway):
            yield IPv4Network(_little_endian(gateway))
        elif _little_endian(mask):
            yield IPv4Network((_little_endian(to), str(IPv4Address(_little_endian(mask)))))


def _of_v6(lines: Sequence[str]) -> Iterator[Network]:
    for line in lines:
        to, length, _source, _source_length, gateway, _metric, _count, _use, _flags, interface = line.split()
        if interface == "lo":
            continue
        if int(gateway, 16):
            yield IPv6Network(int(gateway, 16))
        elif int(length, 16):
            yield IPv6Network((IPv6Address(int(to, 16)), int(length, 16)))


def _little_endian(text: str) -> int:
    return int.from_bytes(bytes.fromhex(text), "little")
