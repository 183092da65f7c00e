"""The process that runs one query on a copy of the views, and ends. Started by `query_service`, with an empty environment.

What somebody asks is code: it gets a process of its own that can write no file, whose memory and time are bounded, and a
database opened for reading, without access to files or network, whose settings are locked. Standard input brings one JSON
document: ``snapshot`` (path), ``sql``, ``parameters`` (values by name), ``rows`` (most of them), ``answer_bytes``,
``memory_bytes``, ``cpu_s``. Standard output takes one: ``columns`` (name and type), ``rows``, ``truncated``; or ``error``,
one line. This file imports nothing of cutor.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
from typing import Any

import duckdb

PR_SET_PDEATHSIG = 1
PR_SET_NO_NEW_PRIVS = 38
ADDRESS_SPACE_BESIDES_BYTES = 2 << 30
"""Address space of the interpreter, the libraries and their allocators, beside the memory that the query may have."""
FETCH_ROWS = 1000


class Refused(Exception):
    """The question is not answered; the message is one line for who asked."""


def confine() -> None:
    """End with the parent, and give up whatever an answer does not need."""
    libc = ctypes.CDLL(None, use_errno=True)
    for option, value in ((PR_SET_PDEATHSIG, int(signal.SIGKILL)), (PR_SET_NO_NEW_PRIVS, 1)):
        if libc.prctl(option, value, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "prctl")
    for limit, value in ((resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_CORE, 0), (resource.RLIMIT_NOFILE, 64)):
        resource.setrlimit(limit, (value, value))


def limit_to(question: dict[str, Any]) -> None:
    """Bound memory and CPU time by what the question is given."""
    address_space = question["memory_bytes"] + ADDRESS_SPACE_BESIDES_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (address_space, address_space))
    resource.setrlimit(resource.RLIMIT_CPU, (question["cpu_s"], question["cpu_s"]))


def connect(question: dict[str, Any]) -> duckdb.DuckDBPyConnection:
    """Open the copy for reading and lock the door."""
    connection = duckdb.connect(
        question["snapshot"],
        read_only=True,
        config={
            "threads": 1,
            "memory_limit": f"{question['memory_bytes']}B",
            "python_enable_replacements": False,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "allow_community_extensions": False,
        },
    )
    for setting in ("temp_directory = ''", "enable_external_access = FALSE", "lock_configuration = TRUE"):
        connection.execute(f"SET {setting}")
    return connection


def only_statement(connection: duckdb.DuckDBPyConnection, sql: str) -> duckdb.Statement:
    """Return the one statement in a text; raises `Refused` where there is another number, or one that does not just read."""
    statements = connection.extract_statements(sql)
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


def failed(error: str) -> bytes:
    """Return the document of a question that is not answered."""
    return json.dumps({"error": error}).encode()


def main() -> None:
    """Read the question, write the answer."""
    confine()
    question = json.loads(sys.stdin.buffer.readline())
    limit_to(question)
    try:
        with connect(question) as connection:
            answer = ask(connection, question)
    except (duckdb.OutOfMemoryException, MemoryError):
        answer = failed(f"the query needs more than the {question['memory_bytes'] >> 20} MiB of memory that it may have")
    except (Refused, duckdb.Error) as error:
        answer = failed(one_line(error))
    sys.stdout.buffer.write(answer)
    sys.stdout.buffer.flush()
    os._exit(0)  # what DuckDB would still tidy up, the kernel does faster


if __name__ == "__main__":
    main()
