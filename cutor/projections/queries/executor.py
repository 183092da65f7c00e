"""The processes that run queries on a copy of the views. Started by `executors`; imports nothing of cutor.

Three generations, each a fork of the one before, so that none pays again for what its parent has:

start     has DuckDB loaded, and no database open; a packet on standard input, ``{"copy": PATH, "memory_bytes": N}`` with
          a socket, makes a holder
holder    has a copy open, the log beside it replayed, and no thread but one; it says ``{"as_of": …, "shut_in": BOOL}`` or
          ``{"error": …}`` on its socket, and a packet there, with a socket, makes an executor
executor  runs one question and ends

What somebody asks is code: it gets a process of its own with an empty environment that can write no file, whose memory and
time are bounded by the kernel, and a database opened for reading, without access to files or network, whose settings are
locked. Where the kernel lets it, it sees no directory but the copy's, as its root: what a database tells of itself has no path.
It ends when nobody waits for its answer any more.

The executor's socket brings one line of JSON: ``sql``, ``parameters`` (values by name), ``rows`` (most of them),
``answer_bytes``, ``memory_bytes``, ``time_s``. It takes one document: ``columns`` (name and type), ``rows``, ``truncated``; or
``error``, one line, with ``stopped`` where it wanted more memory. Every process ends with its parent.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import resource
import select
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb

PR_SET_PDEATHSIG = 1
"""``PR_SET_PDEATHSIG`` of prctl(2): the signal that the kernel sends when the parent dies."""
PR_SET_NAME = 15
"""``PR_SET_NAME`` of prctl(2): the name under which the process is listed."""
PR_SET_NO_NEW_PRIVS = 38
"""``PR_SET_NO_NEW_PRIVS`` of prctl(2): no program that is executed gains privileges."""
CLONE_NEWUSER = 0x10000000
"""Flag of unshare(2): a user namespace of its own."""
ADDRESS_SPACE_BESIDES_BYTES = 1 << 30
"""Address space for allocators and libraries, beside what the process has already and the memory that the query may have."""
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
FETCH_ROWS = 1000
"""Rows that are fetched at one time, before the size of the answer is looked at."""
PACKET_BYTES = 64 << 10
"""An order is one line of JSON: a path, or a few numbers."""
AS_OF = "SELECT stream, sequence, time::VARCHAR, waits_for FROM checkpoint"
END = b"\n"
"""Behind a whole answer: one whose executor was ended in between lacks it."""
libc = ctypes.CDLL(None, use_errno=True)


class Refused(Exception):
    """The question is not answered; the message is one line for who asked."""


# -- processes ---------------------------------------------------------------------------------------------------------------


def prctl(option: int, value: int | bytes) -> None:
    """Set something of this process; prctl(2)."""
    if libc.prctl(option, value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


def end_with_parent(parent: int) -> None:
    """End when the parent does, or now, where it has ended already."""
    prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != parent:
        os._exit(1)


def confine() -> None:
    """Give up whatever an answer does not need; those who are forked have it no more. The kernel ends them before others."""
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    Path("/proc/self/oom_score_adj").write_text("1000")
    for limit, value in ((resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_CORE, 0), (resource.RLIMIT_NOFILE, 64)):
        resource.setrlimit(limit, (value, value))


def shut_in(directory: Path) -> bool:
    """Have a directory for root, in a user namespace of its own where that is needed; return whether either is allowed."""
    try:
        os.chroot(directory)
    except PermissionError:
        parent = os.getppid()
        if libc.unshare(CLONE_NEWUSER):
            return False
        end_with_parent(parent)  # the kernel forgets that with the credentials
        try:
            os.chroot(directory)
        except PermissionError:
            return False
    os.chdir("/")
    return True


def end_with_asker(asked: socket.socket) -> None:
    """End by SIGIO when the other side closes a socket, from which nothing more is to be read, or now, if it has."""
    fcntl.fcntl(asked, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(asked, fcntl.F_SETFL, fcntl.fcntl(asked, fcntl.F_GETFL) | os.O_ASYNC)
    closed = select.poll()
    closed.register(asked, 0)
    if closed.poll(0):
        os._exit(0)


def serve(control: socket.socket, name: bytes, work: Callable[[bytes, socket.socket], None]) -> None:
    """Fork a process for every packet that comes with a socket, until nobody can send one; their ends are nobody's business."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    own = os.getpid()
    while True:
        packet, descriptors, _, _ = socket.recv_fds(control, PACKET_BYTES, 1)
        if not packet:
            return
        with socket.socket(fileno=descriptors[0]) as handed:
            if os.fork() == 0:
                end_with_parent(own)
                prctl(PR_SET_NAME, name)
                control.close()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                work(packet, handed)
                os._exit(0)  # what DuckDB would still tidy up, the kernel does faster


def hold(packet: bytes, control: socket.socket) -> None:
    """Hold a copy open for executors."""
    order = json.loads(packet)
    copy = Path(order["copy"])
    statm = os.open("/proc/self/statm", os.O_RDONLY)
    os.chdir(copy.parent)
    is_shut_in = shut_in(copy.parent)
    try:
        connection = connect(copy.name, order["memory_bytes"])
        as_of = [list(row) for row in connection.execute(AS_OF).fetchall()]
    except duckdb.Error as error:
        control.sendall(failed(one_line(error)))
        return
    control.sendall(json.dumps({"as_of": as_of, "shut_in": is_shut_in}).encode())
    serve(control, b"query", lambda _, asked: work(connection, asked, statm))


def work(connection: duckdb.DuckDBPyConnection, asked: socket.socket, statm: int) -> None:
    """Read a question, write the answer."""
    with asked.makefile("rb") as reader:
        question = json.loads(reader.readline())
    end_with_asker(asked)
    limit_to(question, statm)
    try:
        answer = ask(connection, question)
    except (duckdb.OutOfMemoryException, MemoryError):
        why = f"the query needs more than the {question['memory_bytes'] >> 20} MiB of memory that it may have"
        answer = failed(why, stopped=True)
    except (Refused, duckdb.Error) as error:
        answer = failed(one_line(error))
    except Exception as error:  # a kind of statement that the client library does not know, for one
        answer = failed(f"the statement cannot be answered: {one_line(error)}")
    signal.signal(signal.SIGIO, signal.SIG_IGN)  # it comes for what is read of the answer, too
    asked.sendall(answer + END)


def limit_to(question: dict[str, Any], statm: int) -> None:
    """Bound memory, CPU time and time by what the question is given: the kernel ends who has more.

    What there is already is what the holder has, whose open ``statm`` says how much: this process has just been forked.
    """
    now_bytes = int(os.pread(statm, 100, 0).split()[0]) * PAGE_BYTES
    address_space = now_bytes + question["memory_bytes"] + ADDRESS_SPACE_BESIDES_BYTES
    cpu_s = int(question["time_s"]) + 1
    resource.setrlimit(resource.RLIMIT_AS, (address_space, address_space))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s))
    signal.setitimer(signal.ITIMER_REAL, question["time_s"])


# -- the database ------------------------------------------------------------------------------------------------------------


def connect(copy: str, memory_bytes: int) -> duckdb.DuckDBPyConnection:
    """Open the copy for reading, without a thread that a fork would lack, and lock the door.

    What the replayed log takes of memory does not count against what a query may have.
    """
    connection = duckdb.connect(
        copy,
        read_only=True,
        config={
            "threads": 1,
            "async_threads": 0,
            "python_enable_replacements": False,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "allow_community_extensions": False,
        },
    )
    [(taken,)] = connection.execute("SELECT coalesce(sum(memory_usage_bytes), 0)::BIGINT FROM duckdb_memory()").fetchall()
    for setting in (
        f"memory_limit = '{memory_bytes + taken}B'",
        "enable_progress_bar = FALSE",
        "temp_directory = ''",
        "secret_directory = '/'",
        "TimeZone = 'UTC'",
        "enable_external_access = FALSE",
        "disabled_filesystems = 'LocalFileSystem'",  # the copy itself, which is open, could be read as a file
        "lock_configuration = TRUE",
    ):
        connection.execute(f"SET {setting}")
    return connection


def only_statement(connection: duckdb.DuckDBPyConnection, sql: str) -> duckdb.Statement:
    """Return the one statement in a text; raises `Refused` where there is another number, or one that does not just read."""
    statements = connection.extract_statements(sql)
    if not statements:
        raise Refused("there is no statement to answer: write one in SQL, `show tables` for instance")
    if len(statements) != 1:
        raise Refused(f"one statement at a time: found {len(statements)}")
    [statement] = statements
    if statement.type not in {duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN}:
        allowed = "SELECT, WITH, FROM, DESCRIBE, SHOW, EXPLAIN"
        raise Refused(f"only statements that read are answered ({allowed}), not {statement.type.name}")
    return statement


def without_end(sql: str) -> str:
    """Return a statement without its semicolon and the comments behind it: it goes into another statement."""
    raw = sql.encode()
    ends = (at for at, kind in duckdb.tokenize(sql) if kind == duckdb.token_type.operator and raw[at : at + 1] == b";")
    return raw[: next(ends, len(raw))].decode()


def ask(connection: duckdb.DuckDBPyConnection, question: dict[str, Any]) -> bytes:
    """Return the answer's document, no larger than it may be. DuckDB itself writes the rows as JSON, one array each."""
    statement = only_statement(connection, question["sql"])
    parameters = question["parameters"]
    if statement.type == duckdb.StatementType.EXPLAIN:
        lines = connection.execute(statement, parameters).fetchall()
        columns = [{"name": "explain_key", "type": "VARCHAR"}, {"name": "explain_value", "type": "VARCHAR"}]
        return document(columns, [json.dumps(line) for line in lines], truncated=False)
    inner = without_end(statement.query)
    described = connection.execute(f"DESCRIBE (\n{inner}\n)", parameters).fetchall()
    columns = [{"name": name, "type": kind} for name, kind, *_ in described]
    names = [f"c{number}" for number in range(len(columns))]
    rows = connection.execute(
        f"SELECT json_array({', '.join(names)})::VARCHAR FROM (\n{inner}\n) AS answer({', '.join(names)}) "  # noqa: S608
        f"LIMIT {int(question['rows']) + 1}",
        parameters,
    )
    return document(columns, *fetch(rows, question))


def fetch(rows: duckdb.DuckDBPyConnection, question: dict[str, Any]) -> tuple[list[str], bool]:
    """Return the rows, and whether there were more than the question may have. Raises `Refused` for too many bytes."""
    fetched: list[str] = []
    size_bytes = 0
    while some := rows.fetchmany(FETCH_ROWS):
        fetched += [row for (row,) in some]
        size_bytes += sum(len(row.encode("utf-8", "surrogatepass")) + 1 for (row,) in some)
        if size_bytes > question["answer_bytes"]:
            raise Refused(
                f"the answer has more than {question['answer_bytes']} bytes: ask for fewer columns, or fewer rows with LIMIT"
            )
    return fetched[: question["rows"]], len(fetched) > question["rows"]


def document(columns: list[dict[str, str]], rows: list[str], truncated: bool) -> bytes:
    """Return the answer as JSON."""
    head = json.dumps({"columns": columns, "truncated": truncated})
    return (head[:-1] + ', "rows": [' + ",".join(rows) + "]}").encode()


def one_line(error: BaseException) -> str:
    """Return the first line of DuckDB's message, and what it points at, without the picture of the statement."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    kept = [line for line in lines if not line.startswith(("LINE ", "^"))]
    return " ".join(kept)[:500] or type(error).__name__


def failed(error: str, *, stopped: bool = False) -> bytes:
    """Return the document of a question that is not answered; ``stopped``: for want of memory."""
    return json.dumps({"error": error, "stopped": stopped}).encode()


def main() -> None:
    """Fork a holder for every copy."""
    end_with_parent(int(sys.argv[1]))
    prctl(PR_SET_NAME, b"query-start")
    confine()
    control = socket.socket(fileno=os.dup(sys.stdin.fileno()))
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1):
        os.dup2(nothing, standard)
    serve(control, b"query-views", hold)


if __name__ == "__main__":
    main()
