"""Docstrings of fields are found in the source of a class and of those it inherits from, and belong to their field alone."""

import re

import msgspec
import pytest

from cutor.bus import bodies
from cutor.cli.field_docs import field_docs
from cutor.client import client
from cutor.model.build_progress import PIECE_CHARACTERS, BuildProgress
from cutor.model.content import INLINE_BYTES, BodyRef, Content
from cutor.model.decisions import ParkedResolved
from cutor.model.events import EVENT_TYPES, Cancelled, Leased, Output
from cutor.model.limits import Bounds, Limit, RequestedLimit
from cutor.model.state import Submission
from cutor.projections.queries import questions


def test_a_field_has_the_docstring_beneath_it() -> None:
    assert field_docs(Limit)["processes"] == "processes and threads at one time"
    assert set(field_docs(Bounds)) == set(Bounds.__struct_fields__)


def test_an_inherited_field_has_that_of_its_class() -> None:
    assert list(field_docs(Leased)) == ["version", "lease"]
    assert len({field_docs(kind)["version"] for kind in EVENT_TYPES}) == 1


@pytest.mark.parametrize(
    ("kind", "field", "number"),
    [
        (BodyRef, "chunks", bodies.CHUNK_BYTES),
        (Output, "body", INLINE_BYTES >> 10),
        (Content, "body", INLINE_BYTES >> 10),
        (Cancelled, "reason", client.REASON_BYTES),
        (ParkedResolved, "reason", client.REASON_BYTES),
        (BuildProgress, "text", PIECE_CHARACTERS),
        (questions.Question, "sql", questions.SQL_CHARACTERS),
        (questions.Question, "parameters", questions.PARAMETERS),
        (questions.Question, "timeout_s", int(questions.LONGEST_TIMEOUT_S)),
        (questions.Question, "rows", questions.MOST_ROWS),
    ],
)
def test_a_number_in_one_is_that_of_its_constant(kind: type[msgspec.Struct], field: str, number: int) -> None:
    assert re.search(rf"\b{number}\b", field_docs(kind)[field])


def test_a_field_without_one_has_none() -> None:
    assert field_docs(RequestedLimit) == {}
    assert field_docs(Submission) == {}, "the docstring of the class is no field's"
