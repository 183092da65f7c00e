"""Which addresses are kept from builds because they are ours: those of NATS, by whatever name, and those of this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from cutor.roles.own_addresses import machine_addresses, own_addresses
from cutor.roles.step import StepFault

FIB_TRIE = """\
Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 198.51.100.0/24 2 0 2
        |-- 198.51.100.0
           /24 link UNICAST
Local:
  +-- 0.0.0.0/0 3 0 5
     +-- 127.0.0.0/8 2 0 2
        |-- 127.0.0.1
           /32 host LOCAL
     |-- 198.51.100.7
        /32 host LOCAL
     |-- 198.51.100.255
        /32 link BROADCAST
"""
IF_INET6 = """\
00000000000000000000000000000001 01 80 10 80       lo
20010db8000000000000000000000007 02 40 00 80     eth0
"""
MACHINE = {"127.0.0.1", "198.51.100.7", "::1", "2001:db8::7"}


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    (tmp_path / "fib_trie").write_text(FIB_TRIE)
    (tmp_path / "if_inet6").write_text(IF_INET6)
    return tmp_path


def test_the_machines_addresses_are_those_of_the_kernel(proc: Path) -> None:
    assert machine_addresses(proc) == MACHINE


def test_a_kernel_without_a_family_has_no_addresses_of_it(tmp_path: Path) -> None:
    assert machine_addresses(tmp_path) == set()


def test_this_machine_has_a_loopback() -> None:
    assert "127.0.0.1" in machine_addresses()


async def test_every_server_counts_configured_or_announced(proc: Path) -> None:
    server = "nats://user:secret@192.0.2.1:4222,tls://[2001:db8::9]:4222,nats://localhost:4222?tls_ca=/ca.pem"
    found = await own_addresses(server, ("192.0.2.2:4222", "[2001:db8::a]:4222"), proc)
    assert {*found} == {*MACHINE, "192.0.2.1", "192.0.2.2", "2001:db8::9", "2001:db8::a"}
    assert list(found) == sorted(found)


async def test_a_server_whose_name_has_no_address_is_a_fault_and_not_left_out(proc: Path) -> None:
    with pytest.raises(StepFault, match=r"the NATS server nowhere\.invalid has no address now, so no build"):
        await own_addresses("nats://nowhere.invalid:4222", (), proc)
