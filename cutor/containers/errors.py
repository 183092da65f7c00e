"""What can go wrong with Docker. Each message is one line: what was asked, what came of it, what to do."""

from cutor.errors import CutorError
from cutor.model.quoting import visible


def one_line(text: str) -> str:
    """Return a foreign text as a part of a one-line message: every run of white space is one space."""
    return " ".join(text.split())


class ContainerError(CutorError):
    """Docker or a container failed cutor: a fault of the infrastructure, never of a user's program."""


class EngineFailure(ContainerError):
    """Docker refused or failed; the message holds what was asked and what Docker said."""


class EngineRefused(EngineFailure):
    """Docker answered, and did not do what it was asked: nothing has changed."""


class EngineUnreachable(EngineFailure):
    """No Docker Engine answers; the message names the address and what to do."""


class ImageMissing(ContainerError):
    """The child image is not on this host; the message names it and what to do."""


class SessionFault(ContainerError):
    """A child container failed, or said what no init of cutor's says: the step is to be retried in another one.

    The message may hold what the container said: it is made fit for a line in a log, an event and a terminal here.
    """

    def __init__(self, message: str) -> None:
        super().__init__(visible(message))
