"""Errors of users, passing faults and bugs are kept apart: nothing catches every error but what stands here, with its reason.

A handler of every error that raises again, after it has cleaned up, keeps nothing from anybody, and needs none.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]

BOUNDARIES = {
    # the outermost frame of a process: there is nobody behind it
    "cli/main.py run": "a command: one line, and exit code 3 for a bug",
    "jail/inside/worker_init.py main": "the init of a runner's container: its host is told, as of a fault",
    "nix/inside/namespace.py _inside": "a forked child: printed, and its exit code says so",
    "projections/folds/feeder.py feed": "the process that reads for the fold: its parent is told, and raises",
    "projections/queries/executor.py work": "the process that answers one question: who asked is told",
    # a thread or a task whose error is raised by who waits for it
    "bus/bulk/puller.py Puller._run": "a thread: kept, and raised at the next take",
    "stack/supervisor.py Supervisor._keep.watched": "a task: kept, the others end, and it is raised behind them",
    # the role loop: an error is of one delivery, which comes again, a bounded number of times (`Poison`)
    "roles/loop.py Loop._serve": "a bug before a lease: counted, then parked",
    "roles/handler.py Handler._under_lease": "a bug beside the work: the lease counts it",
    "roles/handler.py Handler._work_under": "a fault or a bug of the work: the lease counts it, the last one parks",
    "roles/handler.py Handler._hand_back": "at a shutdown: left to the next start",
    "roles/poison.py Poison.answer": "a bug behind a bug: left to the delivery's clock",
    "roles/poison.py Poison._end": "a history that cannot be read: a dead letter in place of the end",
    "roles/former_life.py FormerLife._one": "at a start: this submission is left to its delivery",
    # one request or one notice among many: its end is no end of who serves them
    "bus/service.py Service._serve": "one request: logged, and nobody is answered",
    "metrics/endpoint.py Endpoint._converse": "one scrape: logged, and the connection closed",
    "projections/queries/service.py QueryService._serve": "one question: logged, and who asked is told",
    "projections/rebuilds/service.py _Rebuild._rebuild": "one rebuild: logged, told, and the old views stay",
    "cli/checks/examination.py _guarded": "one part of doctor's: a finding of its own",
    # what a role does beside its work, and does again
    "containers/facts.py Facts._listen": "Docker is asked each time meanwhile",
    "containers/pool.py Pool._add": "the next container is made when it is wanted",
    "process/telling.py _tell": "statistics: told no more",
    "roles/ability.py Ability._looked": "the worker counts as unable, and is looked at again",
    "roles/ability.py Ability._recover": "looked at again",
    "roles/cache_reach.py CacheReach._looked": "what was known of the cache stays",
    "roles/claims.py Claim._owner_of": "an owner whose history cannot be read is waited for by nobody",
    "roles/private.py PrivateEnvironments._settle": "looked at again",
    "roles/publishing.py Publishing._one_left": "tried again, a bounded number of times",
    "roles/runner_containers.py RunnerContainers._cleared": "the container serves nobody else",
}
"""Where every error ends, and what becomes of it. All log the traceback of a bug, or hand it on."""


def _names(caught: ast.expr | None) -> set[str]:
    return {"everything"} if caught is None else {node.id for node in ast.walk(caught) if isinstance(node, ast.Name)}


def _ends_here(handler: ast.ExceptHandler) -> bool:
    return not any(isinstance(node, ast.Raise) for node in ast.walk(handler))


def _boundaries(node: ast.AST, inside: str = "") -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        name = inside
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            name = f"{inside}.{child.name}".removeprefix(".")
        if isinstance(child, ast.ExceptHandler):
            caught = _names(child.type) & {"everything", "Exception", "BaseException"}
            if caught and _ends_here(child):
                yield name
        yield from _boundaries(child, name)


def _suppressed(tree: ast.AST) -> bool:
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("suppress"))
    return any(name in {"Exception", "BaseException"} for call in calls for argument in call.args for name in _names(argument))


def test_every_error_ends_at_a_boundary_that_is_known() -> None:
    found = {
        f"{path.relative_to(ROOT / 'cutor')} {name}"
        for path in (ROOT / "cutor").rglob("*.py")
        for name in _boundaries(ast.parse(path.read_text()))
    }
    assert found == set(BOUNDARIES)


def test_nothing_suppresses_every_error() -> None:
    assert [path for path in (ROOT / "cutor").rglob("*.py") if _suppressed(ast.parse(path.read_text()))] == []


def test_a_handler_that_swallows_is_found() -> None:
    tree = ast.parse(
        "class A:\n  def b(self):\n    try: c()\n    except (OSError, Exception): pass\n    try: c()\n    except: raise\n"
    )
    assert [*_boundaries(tree)] == ["A.b"]
    assert _suppressed(ast.parse("with contextlib.suppress(OSError, Exception): pass"))
