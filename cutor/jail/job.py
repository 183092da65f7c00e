"""What a runner's container is handed as its job, and the one thing that it may miss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cutor.model.environments import Programs


class EnvironmentMissing(Exception):
    """The store of this host does not hold the whole environment, or did not until the end of a stage; ``path`` is the first
    of it that is missing. Whatever else the stage reported says nothing of the submission.
    """

    def __init__(self, path: str) -> None:
        super().__init__(f"{path} is not in the store")
        self.path = path


@dataclass(frozen=True)
class RunnerJob:
    """What a runner's container is given: the files by name, the exact variables of every stage, and where its programs are.

    ``closure`` is every store path of the environment: the init looks whether they are there before anything runs.
    """

    files: Mapping[str, bytes]
    variables: Sequence[tuple[bytes, bytes]]
    programs: Programs
    closure: Sequence[str] = ()
