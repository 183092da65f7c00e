"""Labels of containers and volumes: what others of this host can tell of them without asking who made them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

INSTANCE_LABEL: Final = "cutor"
"""Whose it is: the label of a stack's instance."""
DATA_LABEL: Final = "cutor.data"
ROLE_LABEL: Final = "cutor.role"
USER_LABEL: Final = "cutor.store-user"
"""Whom a store's container serves."""
SUBMISSION_LABEL: Final = "cutor.submission"
"""Whom a builder's container serves, as tenant/id. A runner's is made before that is known."""
UID_LABEL: Final = "cutor.uid"
"""The uid that a runner's container has been lent: Docker's listing tells labels, and not the user."""
ENVIRONMENT_LABEL: Final = "cutor.environment"
"""The key of the environment that a runner uses, on the volume that marks this for all stacks."""
STORE_LABEL: Final = "cutor.store"
"""The store volume that a runner's container uses, and in which a mark's environment is."""
COLLECTS_LABEL: Final = "cutor.collects"
"""The store volume that a store's container deletes from; by it a run that begins knows of a collection."""
KEEPS_LABEL: Final = "cutor.keeps"
"""The environments that a collection keeps for certain, by the first `KEPT_CHARACTERS` of their keys, between spaces."""
KEPT_CHARACTERS: Final = 16
"""Enough to tell keys apart (64 bits), and few, since a label holds them for every environment that stands."""
RELEASES_LABEL: Final = "cutor.releases"
"""The store volume in which a store's container removes roots."""


def collection_labels(store_volume: str, keeps: Iterable[str]) -> dict[str, str]:
    """Return the labels of a job that deletes from a store; ``keeps`` are the keys whose environments stay for certain."""
    kept = " ".join(sorted(key[:KEPT_CHARACTERS] for key in keeps))
    return {COLLECTS_LABEL: store_volume, KEEPS_LABEL: kept}


def release_labels(store_volume: str) -> dict[str, str]:
    """Return the labels of a job that removes roots from a store, and deletes nothing."""
    return {RELEASES_LABEL: store_volume}
