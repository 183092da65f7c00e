"""Which collections of the store a run waits for."""

from __future__ import annotations

import secrets

import pytest

from cutor.containers.engine import ContainerSummary
from cutor.containers.host_config import Identity, Resources, RunnerStorage, runner_spec, store_spec, use_mark
from cutor.containers.labels import (
    COLLECTS_LABEL,
    ENVIRONMENT_LABEL,
    KEEPS_LABEL,
    STORE_LABEL,
    collection_labels,
    release_labels,
)
from cutor.roles.collections import AT_WORK, threatened

KEY, OTHER = secrets.token_hex(32), secrets.token_hex(32)


def collection(*kept: str, state: str = "running") -> ContainerSummary:
    """Return the container of a collection as a listing shows it, made by the specification that makes it."""
    spec = store_spec(
        Identity("i", "t"),
        image="image",
        module="m",
        user="command",
        resources=Resources(1, 1),
        store_volume="v",
        var_volume="w",
        labels=collection_labels("v", kept),
    )
    return ContainerSummary(id="1", name=spec.name, state=state, labels=spec.body["Labels"])


def test_a_key_that_is_kept_is_not_threatened() -> None:
    assert not threatened([], KEY)
    assert not threatened([collection(KEY), collection(OTHER, KEY)], KEY)


def test_a_key_that_one_collection_does_not_keep_is() -> None:
    assert threatened([collection()], KEY)
    assert threatened([collection(KEY), collection(OTHER)], KEY)


@pytest.mark.parametrize("state", ["created", "running", "paused", "restarting", "removing", "exited", "dead"])
def test_what_does_not_run_deletes_nothing(state: str) -> None:
    assert threatened([collection(state=state)], KEY) == (state in AT_WORK)


def test_run_and_collection_are_found_by_the_volume_that_they_share() -> None:
    storage, resources = RunnerStorage(store_volume="v"), Resources(1, 1)
    run = runner_spec(Identity("i", "t"), image="x", uid=1, resources=resources, storage=storage)
    assert run.body["Labels"][STORE_LABEL] == collection().labels[COLLECTS_LABEL] == "v"
    mark = use_mark(Identity("i", "t"), "v", KEY)
    assert (mark.labels[STORE_LABEL], mark.labels[ENVIRONMENT_LABEL]) == ("v", KEY)


def test_a_job_that_deletes_nothing_is_no_collection() -> None:
    assert not {COLLECTS_LABEL, KEEPS_LABEL} & set(release_labels("v"))
