"""References to bodies: they may come from anyone, so they are checked before they are followed."""

import re

import pytest

from cutor.bus.bodies import CHUNK_BYTES, MAX_BYTES, BodyRef, body_subject, check_reference, chunks_of, reference_of
from cutor.bus.errors import BodyCorrupt

DIGEST = "0" * 64
SALT = "0123456789abcdef"


@pytest.mark.parametrize(
    ("size_bytes", "chunks"),
    [(0, 0), (1, 1), (CHUNK_BYTES, 1), (CHUNK_BYTES + 1, 2), (20 << 20, 40)],
)
def test_chunks(size_bytes: int, chunks: int) -> None:
    assert chunks_of(size_bytes) == chunks
    check_reference(BodyRef(DIGEST, size_bytes, chunks))


def test_a_reference_is_the_contents_hash() -> None:
    assert reference_of(b"abc") == BodyRef("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", 3, 1)
    assert body_subject(DIGEST, 3) == f"cutor.body.{DIGEST}.3"


def test_a_salted_name_is_one_token_and_says_nothing_of_the_next_one() -> None:
    names = [body_subject(DIGEST, chunk, SALT).split(".") for chunk in range(4)]
    assert [(name[:2], name[3]) for name in names] == [(["cutor", "body"], str(chunk)) for chunk in range(4)]
    assert all(re.fullmatch(DIGEST + "-[0-9a-f]{16}", name[2]) for name in names)
    assert len({name[2] for name in names}) == 4
    assert all(SALT not in name[2] for name in names)
    check_reference(BodyRef(DIGEST, 1, 1, SALT))


@pytest.mark.parametrize(
    "ref",
    [
        BodyRef("*", 1, 1),
        BodyRef(">", 1, 1),
        BodyRef("A" * 64, 1, 1),
        BodyRef(DIGEST + "\n", 1, 1),
        BodyRef(DIGEST, -1, 0),
        BodyRef(DIGEST, MAX_BYTES + 1, chunks_of(MAX_BYTES + 1)),
        BodyRef(DIGEST, 1, 2),
        BodyRef(DIGEST, 1, 10**9),
        BodyRef(DIGEST, 0, 1),
        BodyRef(DIGEST, 1, 1, ""),
        BodyRef(DIGEST, 1, 1, SALT + "\n"),
        BodyRef(DIGEST, 1, 1, SALT.upper()),
        BodyRef(DIGEST, 1, 1, ">"),
    ],
)
def test_a_reference_that_cannot_be_true_is_refused(ref: BodyRef) -> None:
    with pytest.raises(BodyCorrupt):
        check_reference(ref)
