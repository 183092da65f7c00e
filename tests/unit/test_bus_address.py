"""A server's address: what is in it, what may be shown of it, and what a server says of things that a user may not do."""

import pytest

from cutor.bus.address import Credential, TlsFiles, credential_of, public_address, read_address, with_tls, with_user
from cutor.bus.errors import AddressInvalid
from cutor.bus.permission import Violation, describe, read_violation


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("nats://user:pass@host:4222", "nats://host:4222"),
        ("tls://token@host", "tls://host"),
        ("nats://u:p@a:1, nats://u:p@b:2", "nats://a:1,nats://b:2"),
        ("host:4222", "nats://host:4222"),
        ("tls://u:p@a:1,tls://u:p@b:2?tls_ca=/etc/ca.pem", "tls://a:1,tls://b:2"),
    ],
)
def test_the_address_is_shown_without_the_credential(url: str, shown: str) -> None:
    assert public_address(url) == shown


@pytest.mark.parametrize(
    "url",
    [
        *("", "host:4222", "http://host", "nats://", "nats://host:port", "nats://host:99999", "nats://a,b"),
        *(
            "nats://u:secret@a?ca=/x",
            "tls://a?tls_ca=x",
            "tls://a?tls_ca=/x&tls_ca=/y",
            "tls://a?tls_ca=",
            "tls://a?tls_ca=/x%00",
        ),
    ],
)
def test_an_address_that_is_none_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(AddressInvalid, match="not valid") as error:
        read_address(url)
    assert "secret" not in str(error.value)


def test_the_files_of_an_address_are_for_all_of_its_servers() -> None:
    address = read_address("tls://u:p@a:1,tls://u:p@b:2?tls_ca=/etc/a%20ca%2C1.pem&tls_cert=/c&tls_key=/k")
    assert address.servers == ("tls://u:p@a:1", "tls://u:p@b:2")
    assert address.tls == TlsFiles("/etc/a ca,1.pem", "/c", "/k")


def test_files_are_added_for_what_an_address_names_none_for() -> None:
    files = TlsFiles("/etc/a ca,&?1.pem", "/c", "/k")
    added = with_tls("tls://u:p@a:1,tls://b", files)
    assert read_address(added).tls == files
    assert with_tls(added, TlsFiles("/other")) == added
    assert with_tls("nats://a", TlsFiles()) == "nats://a"


def test_a_pair_of_certificate_and_key_is_not_put_together_from_two_places() -> None:
    assert read_address(with_tls("tls://a?tls_cert=/own", TlsFiles("/ca", "/c", "/k"))).tls == TlsFiles("/ca", "/own", None)


@pytest.mark.parametrize(
    ("server", "credential", "inbox"),
    [
        ("nats://host", Credential(), "_INBOX"),
        ("nats://to%40ken@host", Credential(token="to@ken"), "_INBOX"),
        ("nats://producer:p%40ss@host", Credential("producer", "p@ss"), "_INBOX.producer"),
        ("nats://a.b:p@host", Credential("a.b", "p"), "_INBOX"),
        ("nats://%3E:p@host", Credential(">", "p"), "_INBOX"),
    ],
)
def test_each_user_has_inboxes_of_its_own_where_its_name_can_be_in_a_subject(
    server: str, credential: Credential, inbox: str
) -> None:
    assert credential_of(server) == credential
    assert credential.inbox_prefix == inbox


@pytest.mark.parametrize(
    ("said", "violation"),
    [
        ('nats: permissions violation for publish to "cutor.ev.a.id.finished"', ("publish", "cutor.ev.a.id.finished")),
        ('permissions violation for subscription to "_inbox.b.>"', ("subscription", "_inbox.b.>")),
        ('Permissions Violation for Subscription to "a" using queue "q"', ("subscription", "a")),
        ("nats: maximum payload violation", None),
    ],
)
def test_what_a_server_says_of_a_violation_is_read(said: str, violation: tuple[str, str] | None) -> None:
    assert read_violation(said) == violation


def test_a_violation_names_user_subject_and_remedy_in_one_line() -> None:
    violation = Violation("publish", "cutor.ev.a.id.finished")
    line = describe(violation, "cutor.ev.a.ID.finished", user="producer", address="tls://host:1")
    assert line.startswith("NATS at tls://host:1 does not let the user 'producer' publish to cutor.ev.a.ID.finished: ")
    assert "this user" in describe(violation, "x", user=None, address="a")


@pytest.mark.parametrize(
    ("url", "there"),
    [
        ("nats://cutor:p@host:4222", "nats://other:p@host:4222"),
        ("tls://cutor:p@a:1, tls://cutor:p@b:2?tls_ca=/cutor:x", "tls://other:p@a:1, tls://other:p@b:2?tls_ca=/cutor:x"),
        ("nats://archiver:cutor:p@host", "nats://archiver:cutor:p@host"),
        ("nats://cutor@host", "nats://cutor@host"),
        ("nats://host:4222", "nats://host:4222"),
    ],
)
def test_another_user_takes_the_place_of_one(url: str, there: str) -> None:
    assert with_user(url, "cutor", "other") == there
