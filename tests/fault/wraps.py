"""The choke points of cutor's processes, wrapped: a point before and after each, and in the midst where something is sent.

``wrap(role)`` is called once, in a process that has loaded cutor and has not begun. The product knows nothing of it: what is
wrapped here are its own functions, by name, and a name that is gone is an error at once.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, Final

from cutor.bus import link
from cutor.containers import engine
from cutor.containers.child import Child
from cutor.containers.errors import EngineFailure, SessionFault
from cutor.jail import session as jail
from cutor.journal.journal import Journal
from cutor.model.subjects import Address
from cutor.nix import session as nix
from cutor.nix import store_session
from cutor.nix.cache_session import CacheSession
from cutor.projections import projector, store, views_file, writer
from cutor.projections.queries import copies, keeper
from cutor.roles import former_life, handler, in_hand, poison, private
from tests.fault.arming import Injected, armed, around, passed, soon

HEARTBEAT_S: Final = 0.5
"""Between two heartbeats of a delivery: tiny submissions would see none of the product's."""
POISON_DELIVERIES: Final = 2
"""After so many a delivery that fails by a bug is ended: the product's five would take half a minute."""
POISONED: Final = "poisoned"
"""Armed to fail, a role cannot read what stands in the log of submissions whose id begins with `POISON` and its name."""
POISON: Final = "poison-"
BUG: Final = "bug"
"""Armed to fail, a role cannot attend to a submission whose id begins with this and its name; its log can be read."""
SENT_S: Final = 0.01
"""How long a request to Docker is under way before a process dies at ``sent``."""
REQUESTS: Final = {
    "create cutor-": "container-create",
    "attach to": "container-attach",
    "start cutor-": "container-start",
    "update limits": "container-limits",
    "remove a container": "container-remove",
    "list containers": "sweep-list",
    "make volume": "mark-create",
    "remove volume": "mark-remove",
}
"""The beginning of what `Engine.call` says that it does, and the point's word for it."""
PAUSE: Final = "-pause-"
"""In the name of a container that serves no submission, and so is none of these."""
SUBJECTS: Final = {
    "cutor.body.": "append-body",
    "cutor.dead.message.": "append-letter",
    "cutor.dead.parked.": "append-decision",
    "cutor.stack.policy": "publish-policy",
}
REQUESTS_OF_SERVER: Final = {
    "$JS.API.STREAM.CREATE.": "stream-apply",
    "$JS.API.STREAM.UPDATE.": "stream-apply",
    "$JS.API.CONSUMER.CREATE.": "consumer-apply",
    "$JS.API.CONSUMER.RESET.": "consumer-reset",
}
ANSWERED: Final = ("append-", "publish-", "stream-", "consumer-")
"""How the words for requests begin; all others are of answers to deliveries."""
VARIANTS: Final = (
    ("cleaned", re.compile(rb'"by":"sweep"'), "append-cleaned-by-sweep"),
    ("cleaned", re.compile(rb'"by":"takeover"'), "append-cleaned-by-takeover"),
    ("parked", re.compile(rb"leases? ended without a result"), "append-parked-by-step"),
    ("parked", re.compile(rb"deliver(?:y|ies) to a [a-z]+ failed"), "append-parked-by-poison"),
)
"""Events of one kind that different places append, known by what stands in them."""
ACKS: Final = {b"+ACK": "ack", b"-NAK": "nak", b"+WPI": "heartbeat", b"+TERM": "term"}
_KIND: Final = re.compile(rb'"kind":"([a-z-]+)"')


def wrap(role: str) -> None:
    """Wrap everything that a process of this role may come by. Its points begin with ``role.``."""
    _wrap_bus(role)
    _wrap_engine(role)
    if role == "runner":
        _wrap_worker_session(role)
        _wrap_cache_session(role, "fetch")
    if role == "builder":
        _wrap_build_session(role)
        _wrap_cache_session(role, "publish")
    if role in {"builder", "runner"}:
        _wrap_in_hand(role)
        assert "HEARTBEAT_S" in vars(handler)
        vars(handler)["HEARTBEAT_S"] = HEARTBEAT_S
        assert "POISON_DELIVERIES" in vars(poison)
        vars(poison)["POISON_DELIVERIES"] = POISON_DELIVERIES
        _wrap_method(handler.Handler, "_hand_back", f"{role}.hand-back")
        _wrap_state(role)
        _wrap_attending(role)
    if role == "projector":
        _wrap_projector(role)


def word_of(subject: str, body: bytes) -> str | None:
    """Return the point's word for a message that is sent: what it appends, or how it answers a delivery; None for others."""
    if subject.startswith("$JS.ACK."):
        return ACKS.get(body.split(b" ", 1)[0])
    if subject.startswith("$JS.API."):
        return next((word for beginning, word in REQUESTS_OF_SERVER.items() if subject.startswith(beginning)), None)
    if subject.startswith("cutor.ev."):
        kind = subject.rpartition(".")[2]
        return next((word for of, found, word in VARIANTS if of == kind and found.search(body)), f"append-{kind}")
    if subject.startswith("cutor.dead.parked.") and b'"action":"dropped"' in body:
        return "append-drop"
    if subject.startswith("cutor.env.") and (found := _KIND.search(body)):
        return f"append-{found[1].decode()}"
    return next((word for beginning, word in SUBJECTS.items() if subject.startswith(beginning)), None)


def _wrap_bus(role: str) -> None:
    """Requests: before, sent, after the answer. What is only sent (answers to deliveries): before and after."""
    send, ask = link.Link.send, link.Link.ask

    @wraps(send)
    async def sending(self: link.Link, subject: str, body: bytes = b"", **more: Any) -> None:
        word = word_of(subject, body)
        if word is None:
            return await send(self, subject, body, **more)
        answered = word.startswith(ANSWERED)
        if not answered:
            passed(f"{role}.{word}.before")
        await send(self, subject, body, **more)
        if not answered:
            passed(f"{role}.{word}.queued")
        point = f"{role}.{word}.{'sent' if answered else 'after'}"
        if armed(point):
            await _flushed(self)
            passed(point)
        return None

    @wraps(ask)
    async def asking(self: link.Link, subject: str, body: bytes = b"", **more: Any) -> Any:
        word = word_of(subject, body)
        if word is None or not word.startswith(ANSWERED):
            return await ask(self, subject, body, **more)
        with around(f"{role}.{word}"):
            return await ask(self, subject, body, **more)

    link.Link.send = sending  # type: ignore[method-assign]
    link.Link.ask = asking  # type: ignore[method-assign]


async def _flushed(over: link.Link) -> None:
    """Return when what was handed to the client library has left the process, so that its death loses none of it."""
    client: Any = over._client
    await client._flush_pending(force_flush=True)
    while client._pending_data_size or client._transport._io_writer.transport.get_write_buffer_size():
        await asyncio.sleep(0.001)


def _wrap_engine(role: str) -> None:
    call = engine.Engine.call

    @wraps(call)
    async def calling(self: engine.Engine, what: str, request: Awaitable[Any], **more: Any) -> Any:
        word = next((word for beginning, word in REQUESTS.items() if what.startswith(beginning)), None)
        if word is None or PAUSE in what:
            return await call(self, what, request, **more)
        try:
            passed(f"{role}.{word}.before")
        except Injected as error:
            if asyncio.iscoroutine(request):
                request.close()
            raise EngineFailure(str(error)) from error
        if armed(f"{role}.{word}.sent"):
            under_way = asyncio.ensure_future(call(self, what, request, **more))
            await asyncio.wait([under_way], timeout=SENT_S)
            passed(f"{role}.{word}.sent")
            result = await under_way
        else:
            result = await call(self, what, request, **more)
        passed(f"{role}.{word}.after")
        return result

    engine.Engine.call = calling  # type: ignore[method-assign]
    _wrap_method(Child, "close_stdin", f"{role}.stop")
    _wrap_call(engine, "limit_sockets", f"{role}.container-sockets")


def _wrap_method(owner: Any, name: str, what: str) -> None:
    """Put a point before and after a method or function that is awaited."""
    method: Callable[..., Awaitable[Any]] = getattr(owner, name)

    @wraps(method)
    async def wrapped(*args: Any, **more: Any) -> Any:
        with around(what):
            return await method(*args, **more)

    setattr(owner, name, wrapped)


def _wrap_call(owner: Any, name: str, what: str) -> None:
    """Put a point before and after a method or function that blocks."""
    function: Callable[..., Any] = getattr(owner, name)

    @wraps(function)
    def wrapped(*args: Any, **more: Any) -> Any:
        with around(what):
            return function(*args, **more)

    setattr(owner, name, wrapped)


def _wrap_worker_session(role: str) -> None:
    for name, word in (("ready", "ready"), ("hand_over", "hand-over")):
        _wrap_method(jail.WorkerSession, name, f"{role}.{word}")
    for name, word in (("run_compile", "compile"), ("run_test", "run")):
        _wrap_stage(name, f"{role}.{word}")


def _wrap_stage(name: str, what: str) -> None:
    """Put a point before and after a stage; where it is to fail, its container does."""
    stage = getattr(jail.WorkerSession, name)

    @wraps(stage)
    async def wrapped(*args: Any, **more: Any) -> Any:
        try:
            passed(f"{what}.before")
        except Injected as error:
            raise SessionFault(str(error)) from error
        result = await stage(*args, **more)
        passed(f"{what}.after")
        return result

    setattr(jail.WorkerSession, name, wrapped)


def _wrap_build_session(role: str) -> None:
    _wrap_method(nix.BuildSession, "_until_ready", f"{role}.ready")
    _wrap_method(Child, "send", f"{role}.build-frame")
    _wrap_method(nix.BuildSession, "_until_done", f"{role}.build")
    _wrap_method(store_session.StoreSession, "release", f"{role}.private-release")
    _wrap_call(private.PrivateEnvironments, "_note", f"{role}.private-note")
    _wrap_call(private.PrivateEnvironments, "_forget", f"{role}.private-forget")


def _wrap_cache_session(role: str, job: str) -> None:
    """A copy as a whole, and the moment in which its container begins: behind that it is at work when its role dies."""
    _wrap_method(CacheSession, "_give", f"{role}.{job}-begun")
    _wrap_method(CacheSession, job, f"{role}.{job}")


def _wrap_in_hand(role: str) -> None:
    """The notes of what a role has in hand, and what a role does about those of its former life."""
    _wrap_call(in_hand.InHand, "note", f"{role}.in-hand-note")
    _wrap_call(in_hand.InHand, "forget", f"{role}.in-hand-forget")
    _wrap_method(former_life.FormerLife, "settle", f"{role}.former-life")


def _wrap_state(role: str) -> None:
    """A bug that meets one submission alone, wherever its state is asked for."""
    for name in ("state", "proven"):
        _wrap_reading(role, name)


def _wrap_reading(role: str, name: str) -> None:
    read = getattr(Journal, name)

    @wraps(read)
    async def asking(self: Journal, address: Address, *args: Any, **more: Any) -> Any:
        if address.id.startswith(f"{POISON}{role}-"):
            try:
                passed(f"{role}.{POISONED}")
            except Injected as error:
                raise RuntimeError(str(error)) from error
        return await read(self, address, *args, **more)

    setattr(Journal, name, asking)


def _wrap_attending(role: str) -> None:
    """A bug that meets one submission alone as a role attends to it, before any lease."""
    attend = handler.Handler._attend_to

    @wraps(attend)
    async def attending(self: handler.Handler, delivery: Any, *args: Any, **more: Any) -> Any:
        if f".{BUG}-{role}-" in delivery.stored.subject:
            try:
                passed(f"{role}.{BUG}")
            except Injected as error:
                raise RuntimeError(str(error)) from error
        return await attend(self, delivery, *args, **more)

    handler.Handler._attend_to = attending  # type: ignore[method-assign]


def _wrap_projector(role: str) -> None:
    transaction = store.Store._transaction

    @contextmanager
    def within(self: store.Store) -> Iterator[None]:
        passed(f"{role}.commit.before")
        with transaction(self):
            yield
            passed(f"{role}.commit.within")
            soon(f"{role}.commit.during")
        passed(f"{role}.commit.after")

    store.Store._transaction = within  # type: ignore[method-assign]
    _wrap_checkpoint(role)
    keeper.PROGRAM[:] = ["-P", str(Path(__file__).with_name("queries.py"))]
    for module in (views_file, writer):
        _wrap_call(module, "set_aside", f"{role}.set-aside")
    for module in (views_file, writer):
        _wrap_call(module, "open_or_make_anew", f"{role}.open")
    _wrap_rename(role)
    _wrap_method(projector.Projector, "_verify", f"{role}.verify")


def wrap_queries(role: str) -> None:
    """The points of the process that a role's queries are answered by."""
    _wrap_call(copies, "copy", f"{role}.snapshot")
    _wrap_rename(role)


def _wrap_checkpoint(role: str) -> None:
    """Let the log be worked in at every commit where a point there is armed: else it would take hundreds of them."""
    work_in, has_long_log = store.Store.work_in_beside, store.Store.has_long_log

    @wraps(has_long_log)
    def long_enough(self: store.Store) -> bool:
        return any(armed(f"{role}.checkpoint.{when}") for when in ("before", "during", "after")) or has_long_log(self)

    @wraps(work_in)
    def working_in(self: store.Store) -> None:
        passed(f"{role}.checkpoint.before")
        soon(f"{role}.checkpoint.during")
        work_in(self)
        passed(f"{role}.checkpoint.after")

    store.Store.has_long_log = long_enough  # type: ignore[method-assign]
    store.Store.work_in_beside = working_in  # type: ignore[method-assign]


def _wrap_rename(role: str) -> None:
    """The point between the two files that are set aside one after the other."""
    rename = Path.rename

    def renaming(self: Path, target: Any) -> Any:
        done = rename(self, target)
        if str(target).endswith(".aside"):
            passed(f"{role}.set-aside.within")
        if str(target).endswith((".snapshot", ".snapshot.wal")):  # by the query service, which may need the log alone
            passed(f"{role}.snapshot.within")
        return done

    Path.rename = renaming  # type: ignore[method-assign]
