"""The inventory: Nix's dump of its database read and followed, and its frames put together on the host."""

from __future__ import annotations

import io
from array import array

import pytest

from cutor.jail.inside.protocol import Frame, ProtocolError
from cutor.nix.inside import inventory
from cutor.nix.inside.inventory import INDEX, Closures, parse
from cutor.nix.inside.store import StoreError
from cutor.nix.store_report import InventoryHeader, InventoryReader, Ready, RootedHeader, decode_header, decode_keys

KEY = "ab" * 32


def path(name: str) -> str:
    return f"/nix/store/{name[0] * 32}-{name}"


def dump(*records: tuple[str, int, list[str]]) -> io.BytesIO:
    """Return a dump as ``nix-store --dump-db`` prints it."""
    text = ""
    for name, nar_bytes, references in records:
        text += f"{path(name)}\n{'0' * 64}\n{nar_bytes}\n\n{len(references)}\n"
        text += "".join(f"{path(reference)}\n" for reference in references)
    return io.BytesIO(text.encode())


def closure(contents: inventory.Contents, *roots: str) -> list[str]:
    return sorted(contents.paths[index] for index in Closures(contents).of(map(path, roots)))


def test_paths_sizes_and_closures_are_those_of_the_dump() -> None:
    contents = parse(dump(("app", 10, ["lib", "app"]), ("lib", 20, ["c"]), ("c", 30, []), ("spare", 40, ["c"])))
    assert dict(zip(contents.paths, contents.nar_bytes, strict=True)) == {
        path("app"): 10, path("lib"): 20, path("c"): 30, path("spare"): 40,
    }  # fmt: skip
    assert closure(contents, "app") == sorted(map(path, ("app", "lib", "c")))
    assert closure(contents, "spare") == sorted(map(path, ("spare", "c")))
    assert closure(contents, "app", "spare", "app") == sorted(map(path, ("app", "lib", "c", "spare")))
    assert closure(contents, "unknown") == []
    assert contents.whole


def test_one_closure_has_no_part_in_the_next() -> None:
    contents = parse(dump(("a", 1, ["c"]), ("b", 1, ["c"]), ("c", 1, [])))
    closures = Closures(contents)
    for root in ("a", "b", "a"):
        assert {contents.paths[index] for index in closures.of([path(root)])} == {path(root), path("c")}


def test_more_references_than_are_kept_leave_the_inventory_standing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inventory, "MAX_REFERENCES", 1)
    contents = parse(dump(("a", 1, ["c"]), ("b", 2, ["c"]), ("c", 3, [])))
    assert not contents.whole
    assert closure(contents, "a") == [path("a"), path("c")]
    assert closure(contents, "b") == [path("b")]
    assert sum(contents.nar_bytes) == 6


def test_closures_are_bounded_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inventory, "MAX_INDICES", 3)
    contents = parse(dump(("a", 1, ["c"]), ("c", 3, [])))
    closures = Closures(contents)
    assert [len(closures.of([path("a")])) for _ in range(3)] == [2, 1, 0]
    assert not closures.whole


@pytest.mark.parametrize(
    "text",
    [
        b"/nix/store/no-path\n0\n1\n\n0\n",
        b"/nix/store/" + b"a" * 32 + b"-a\n0\nmany\n\n0\n",
        b"/nix/store/" + b"a" * 32 + b"-a\n0\n1\n\n2\n/nix/store/" + b"b" * 32 + b"-b\n",
        b"/nix/store/" + b"a" * 32 + b"-a\n0\n1\n\n1\n/etc/passwd\n",
        b"/nix/store/" + b"a" * 32 + b"-a\n" + b"0" * 5000 + b"\n1\n\n0\n",
    ],
)
def test_what_is_no_dump_is_a_fault(text: bytes) -> None:
    with pytest.raises(StoreError):
        parse(io.BytesIO(text))


def indices(*numbers: int) -> bytes:
    return array(INDEX, numbers).tobytes()


def reader_with_paths() -> InventoryReader:
    reader = InventoryReader()
    reader.paths(f"{path('a')} 1\n{path('b')} 2\n".encode())
    return reader


def test_the_host_puts_pieces_together() -> None:
    reader = reader_with_paths()
    reader.rooted(RootedHeader(key=KEY, made_at_s=7), indices(0))
    reader.rooted(RootedHeader(key=KEY, made_at_s=7), indices(1))
    reader.rooted(RootedHeader(key=None, made_at_s=0), indices(1))
    whole = reader.inventory(InventoryHeader(free_bytes=5, size_bytes=9, whole=True))
    assert whole.paths == (path("a"), path("b"))
    assert whole.nar_bytes == (1, 2)
    assert [(one.key, one.made_at_s, list(one.closure)) for one in whole.keys] == [(KEY, 7, [0, 1])]
    assert list(whole.others) == [1]


@pytest.mark.parametrize("line", [b"/etc/passwd 1\n", path("a").encode() + b" -1\n", b"\xff\n", path("a").encode() + b"\n"])
def test_a_line_that_is_no_path_breaks_the_protocol(line: bytes) -> None:
    with pytest.raises(ProtocolError):
        InventoryReader().paths(line)


@pytest.mark.parametrize("body", [indices(2), b"\0\0\0"])
def test_a_closure_of_unknown_paths_breaks_the_protocol(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        reader_with_paths().rooted(RootedHeader(key=KEY, made_at_s=0), body)


@pytest.mark.parametrize(
    "header",
    [
        b"{}",
        b'{"type": "built"}',
        b'{"type": "released", "keys": ["../../etc"]}',
        b'{"type": "collected", "keys": [], "paths": -1, "nar_bytes": 0, "free_bytes": 0}',
        b'{"type": "begun", "more": 1}',
        b'{"type": "ready", "protocol": true, "nix_version": "2"}',
    ],
)
def test_headers_are_decoded_strictly(header: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_header(Frame(header, b""))


def test_a_header_that_is_one() -> None:
    frame = Frame(b'{"type": "ready", "protocol": 3, "nix_version": "nix (Nix) 2.34.8"}', b"")
    assert decode_header(frame) == Ready(protocol=3, nix_version="nix (Nix) 2.34.8")


def test_keys_with_their_times_are_read_strictly() -> None:
    assert decode_keys(b"") == {}
    assert decode_keys(b"%b 17\n%b 0\n" % (b"a" * 64, b"b" * 64)) == {"a" * 64: 17, "b" * 64: 0}
    for odd in (b"%b\n" % (b"a" * 64), b"../x 1\n", b"%b -1\n" % (b"a" * 64), b"%b 1 2\n" % (b"a" * 64), b"\n"):
        with pytest.raises(ProtocolError, match="not a key and its time"):
            decode_keys(odd)
