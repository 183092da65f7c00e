"""What counts as proof that the filter in front of a build's network holds: a rule's refusal, in both families, everywhere."""

from __future__ import annotations

import errno
import socket

import pytest

from cutor.nix.inside import network_filter
from cutor.nix.inside.network_filter import FilterError, _check

IF_INET6 = "00000000000000000000000000000001 01 80 10 80       lo\nfe800000000000000000000000000001 02 40 20 80     eth0\n"


class Kernel:
    """Interfaces, and how a datagram ends that leaves by one of them: sent (None), or with an error."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.interfaces = ["lo", "eth0", "eth1"]
        self.if_inet6 = IF_INET6
        self.ends: dict[tuple[socket.AddressFamily, str], int | None] = {}
        self.tried: list[tuple[socket.AddressFamily, str]] = []
        monkeypatch.setattr(socket, "if_nameindex", lambda: list(enumerate(self.interfaces)))
        monkeypatch.setattr(network_filter, "_is_up", lambda _: True)
        monkeypatch.setattr(network_filter, "_read", lambda _: self.if_inet6)
        monkeypatch.setattr(network_filter, "send", self.send)

    def send(self, family: socket.AddressFamily, interface: str) -> int | None:
        self.tried.append((family, interface))
        return self.ends.get((family, interface), errno.EPERM)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    return Kernel(monkeypatch)


def test_every_interface_is_tried_in_the_families_that_it_has(kernel: Kernel) -> None:
    _check()
    assert kernel.tried == [(socket.AF_INET, "eth0"), (socket.AF_INET6, "eth0"), (socket.AF_INET, "eth1")]


@pytest.mark.parametrize("where", [(socket.AF_INET, "eth0"), (socket.AF_INET6, "eth0"), (socket.AF_INET, "eth1")])
def test_what_is_sent_anywhere_shows_that_there_is_no_filter(kernel: Kernel, where: tuple[socket.AddressFamily, str]) -> None:
    kernel.ends[where] = None
    with pytest.raises(FilterError, match=f"the filter of the build's network was set, and does not hold: {where[1]}, IPv"):
        _check()


@pytest.mark.parametrize("code", [errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL, errno.EACCES])
def test_an_error_that_no_rule_makes_proves_nothing(kernel: Kernel, code: int) -> None:
    kernel.ends[socket.AF_INET, "eth0"] = code
    with pytest.raises(FilterError, match="whether the filter of the build's network holds could not be tried: eth0, IPv4: "):
        _check()


def test_where_there_is_no_interface_nothing_is_proved(kernel: Kernel) -> None:
    kernel.interfaces = ["lo"]
    with pytest.raises(FilterError, match="a network is configured, and the build container has none"):
        _check()
