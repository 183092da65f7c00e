"""What can go wrong between cutor and its event log. The message is one line: what, where, what to do. Pure."""

from __future__ import annotations

from cutor.errors import REFUSED, CutorError


class BusError(CutorError):
    """Root of all errors of the bus."""


class AddressInvalid(BusError):
    """What was given as a server's address is none."""

    exit_code = REFUSED


class TlsFileInvalid(BusError):
    """A file that TLS needs is not there, or is not what it should be."""

    exit_code = REFUSED


class NotPermitted(BusError):
    """The server does not let this user publish or subscribe there; nothing was done. The message names user and subject."""


class BusUnreachable(BusError):
    """No server answers; the message names the address, without the credential, and says what to do."""


class CredentialRefused(BusUnreachable):
    """The server answers, and knows no such user, or another password."""


class Leaderless(BusUnreachable):
    """The server answers, and JetStream in its cluster does not: it has no leader, of its own or for a stream."""


class BusClosed(BusError):
    """The bus was closed while this call waited, by `Bus.close` or for good by the server."""


class StreamMissing(BusError):
    """The server holds no such stream, or no stream takes this subject: `cutor streams apply` makes them."""


class StreamRewound(BusError):
    """The stream ends before the position of its reader, or is another stream of the same name: start again from 1.

    The tail that the reader saw was lost (a power failure, a restored backup). What was made of it is not to be trusted.
    """

    def __init__(self, stream: str, position: int, last_sequence: int) -> None:
        super().__init__(
            f"stream {stream}: was read up to sequence {position}, but now ends at {last_sequence} or was made anew: "
            "what was derived from it must be rebuilt"
        )
        self.stream = stream
        self.position = position
        self.last_sequence = last_sequence


class FenceConflict(BusError):
    """Another event was appended first; nothing was stored. Read again, fold, decide again.

    `last_sequence` is the newest sequence under the fence when the server compared (0: nothing there): pass it to
    `Bus.history` as `at_least`, so that the next read cannot be older than this answer.
    """

    def __init__(self, last_sequence: int) -> None:
        super().__init__(f"another event came first: the newest one has sequence {last_sequence}")
        self.last_sequence = last_sequence


class AppendRefused(BusError):
    """The server refused the message; nothing was stored. `code` is JetStream's error code, 0 for the client's own checks."""

    def __init__(self, code: int, description: str) -> None:
        super().__init__(f"append refused: {description} (code {code})")
        self.code = code
        self.description = description


class AppendUnconfirmed(BusError):
    """No answer within the deadline: the message may or may not be stored. The same message id makes a retry safe."""


class ApiRefused(BusError):
    """The server answered a management request with an error; `code` is JetStream's error code."""

    def __init__(self, what: str, code: int, description: str) -> None:
        super().__init__(f"{what}: {description} (code {code})")
        self.code = code
        self.description = description


class RestoreUnfinished(BusError):
    """The server holds part of a backup, since a restore into it did not end: nothing is built upon that."""

    exit_code = REFUSED


class BodyMissing(BusError):
    """A body that an event refers to is not, or not completely, in the stream."""


class BodyCorrupt(BusError):
    """A stored body does not have the content that its name promises, or a reference contradicts itself."""


class TopologyError(BusError):
    """Streams or consumers cannot be made as `streams.yaml` says: file, place, what is wrong, what to do."""

    exit_code = REFUSED


class ServerFailed(BusError):
    """The embedded server did not start or did not get ready; the message holds the last lines of its log."""
