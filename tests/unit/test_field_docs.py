"""Docstrings of fields are found in the source of a class and of those it inherits from, and belong to their field alone."""

from cutor.cli.field_docs import field_docs
from cutor.model.events import EVENT_TYPES, Leased
from cutor.model.limits import Bounds, Limit, RequestedLimit
from cutor.model.state import Submission


def test_a_field_has_the_docstring_beneath_it() -> None:
    assert field_docs(Limit)["processes"] == "processes and threads at one time"
    assert set(field_docs(Bounds)) == set(Bounds.__struct_fields__)


def test_an_inherited_field_has_that_of_its_class() -> None:
    assert list(field_docs(Leased)) == ["version", "lease"]
    assert len({field_docs(kind)["version"] for kind in EVENT_TYPES}) == 1


def test_a_field_without_one_has_none() -> None:
    assert field_docs(RequestedLimit) == {}
    assert field_docs(Submission) == {}, "the docstring of the class is no field's"
