"""The snippets of README, how-tos and the page on requests, run as a reader would. That none is left out: test_fences.py."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from pathlib import Path
from typing import Any

import duckdb
import pytest
import yaml

from cutor import Client, InvalidRequest
from cutor.bus.permission import Violation, describe
from cutor.nix.settings import NixSettings
from tests.bare_stack import User
from tests.cluster import DeployedCluster
from tests.docs.record import user as user_of
from tests.docs.snippets import (
    ASK,
    CLUSTER,
    DELIVERY,
    ENVIRONMENTS,
    MANY_HOSTS,
    OBSERVE,
    OWN_NATS,
    PARKED,
    README,
    REPLAY,
    REPORT,
    REQUEST,
    ROOT,
    SNAPSHOTS,
    START,
    run,
    script_of,
    snippets,
)
from tests.live_stack import EXAMPLES, Stack, surroundings
from tests.parking import park
from tests.ports import free_port
from tests.stores import write_config


@pytest.mark.parametrize(
    ("page", "also"), [(README, ("set-up is complete", "c-primes: OK", "cache-built")), (START, ())], ids=["README", "index"]
)
def test_the_commands_of_who_sees_cutor_first(page: Path, also: tuple[str, ...], tmp_path: Path) -> None:
    """Those of the README begin with `make demo`."""
    script = "".join(one.text for one in snippets(page, "sh"))
    done = run(f"trap 'cutor down > /dev/null' EXIT\n{script}", user_of(tmp_path))
    assert done.returncode == 0, (done.stdout, done.stderr)
    for said in ("is ready at", "with an argument", "(1 row)", "is stopped", *also):
        assert said in done.stdout, (said, done.stdout)


def test_the_program_of_the_readme(stack: Stack) -> None:
    [program] = snippets(README, "python")
    done = run('exec python -c "$PROGRAM"', stack.environment | {"PROGRAM": program.text})
    assert re.fullmatch(r"OK \[\d+, \d+, \d+\]\n", done.stdout), (done.stdout, done.stderr)


def test_the_request_of_the_reference_in_both_forms(stack: Stack, tmp_path: Path) -> None:
    [request], [settings] = snippets(REQUEST, "json"), snippets(REQUEST, "toml")
    for file in json.loads(request.text)["files"]:
        (tmp_path / file["name"]).write_text(file["content"])
    (tmp_path / "submission.toml").write_text(settings.text)
    assert stack.result("-", "--id", "reference", stdin=request.text.encode())["outcome"] == "OK"
    assert stack.result(str(tmp_path), "--id", "reference")["outcome"] == "OK", "the same id and body is the same submission"


def test_roles_by_themselves_on_a_server_of_ones_own(tmp_path: Path) -> None:
    environment = surroundings(tmp_path)
    config = Path(environment["XDG_CONFIG_HOME"]) / "cutor" / "config.toml"
    config.parent.mkdir(parents=True)
    [settings] = snippets(OWN_NATS, "toml")
    archive = tmp_path / "archive"
    config.write_text(f'{settings.text}\n[archive]\ndirectory = "{archive}"\n')
    copied, away = "cp -r deploy/nats ~/cutor-nats\n", "kill $(jobs -p); wait\nunset CUTOR_SERVER"
    script, port = script_of(OWN_NATS), str(free_port())
    assert (script.count(copied), script.count(away)) == (1, 1)
    script = script.replace("4222", port).replace(copied, f"{copied}sed -i s/4222/{port}/ ~/cutor-nats/*.conf\n")
    script = script.replace(away, f"until [ -e {archive}/mark ]; do sleep 0.2; done\n{away}")
    home = tmp_path / "a home"
    home.mkdir()
    end = "trap 'kill $(jobs -p) 2> /dev/null && wait || true' EXIT"
    done = run(f"{end}\n{script}", environment | {"HOME": str(home)})
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert "batch/own-user OK" in done.stdout
    assert "does not let the user" not in done.stderr
    assert "create consumer runner-batch of stream EVENTS" in done.stdout
    assert "publish limits: none are published yet" in done.stdout
    assert "FAIL" not in done.stdout
    assert "(2 rows)" in done.stdout
    assert [*home.iterdir()] == [], "what the page made is gone"
    assert not (tmp_path / "XDG_STATE_HOME" / "cutor" / "current.json").exists()


def test_parked_submissions_are_looked_at_and_decided(stack: Stack) -> None:
    """The page's own ids are parked before it is followed; what it retries runs to its end."""

    async def prepare() -> None:
        async with Client(stack.server) as client:
            for name in ("6f1c2a", "77ab01", "a01c55"):
                await park(client, EXAMPLES / "python-three-tests", named=name)

    asyncio.run(prepare())
    done = run("".join(one.text for one in snippets(PARKED, "sh")), stack.environment)
    assert done.returncode == 0, (done.stdout, done.stderr)
    for said in (
        "6f1c2a would be retried as 6f1c2a-r2",
        "6f1c2a is retried as 6f1c2a-r2",
        "6f1c2a-r2 OK",
        "77ab01 is dropped",
        "dropped",
        "parked_stage",
    ):
        assert said in done.stdout, (said, done.stdout)
    [program] = snippets(PARKED, "python")
    done = run('exec python -c "$PROGRAM"', stack.environment | {"PROGRAM": program.text})
    assert done.stdout == "a01c55-r2 OK\n", (done.stdout, done.stderr)


def test_the_log_is_replayed(stack: Stack, tmp_path: Path) -> None:
    assert stack.result(str(EXAMPLES / "python-three-tests"), "--label", "course=introduction")["outcome"] == "OK"
    script = "".join(one.text for one in snippets(REPLAY, "sh"))
    done = run(f"cd {tmp_path}\n{script}", stack.environment)
    assert done.returncode == 0, (done.stdout, done.stderr)
    [shown] = snippets(REPLAY, "text")
    line = next(line for line in done.stdout.splitlines() if line.startswith('{"stream":"EVENTS"'))
    assert re.findall(r'"(\w+)":', shown.text)[:6] == list(json.loads(line))
    for said in ('"kind":"submitted"', '"subject":"cutor.env.', "Counter({", "then.duckdb: ", "first_sequence", "outcome"):
        assert said in done.stdout, (said, done.stdout)
    for said in (  # other pages hand in with that label, too
        r"(\d+) submissions? would be handed in: OK \1\n",
        r"(\d+) submissions? handed in: OK \1\b",
        r"\b0 of (\d+) ended otherwise",
        r"-rejudge-new-tests",
    ):
        assert re.search(said, done.stdout), (said, done.stdout)


def test_the_views_are_taken_away(tmp_path: Path) -> None:
    user = User(tmp_path)
    try:
        assert user.up(roles=["projector"]).returncode == 0
        script = "".join(one.text for one in snippets(SNAPSHOTS, "sh"))
        done = run(f"cd '{tmp_path}'\n{script}", user.stack.environment)
    finally:
        assert user.down().returncode == 0
    assert done.returncode == 0, (done.stdout, done.stderr)
    [question] = snippets(SNAPSHOTS, "sql")
    with duckdb.connect(tmp_path / "views.duckdb", read_only=True) as views:
        columns = views.execute(question.text).fetchall()
    assert ("tenant", "VARCHAR", "Whose submission it is") in columns
    assert [name for name, _, comment in columns if not comment] == [], "those of `folds` are without"
    for said in ("views.duckdb: ", "up to EVENTS 0, ENVIRONMENTS 0", "0 rows"):
        assert said in done.stdout, (said, done.stdout)


def test_a_stack_is_observed(tmp_path: Path) -> None:
    """On a stack of its own, in the user's default data directory."""
    up, live, *others = (one.text for one in snippets(OBSERVE, "sh"))
    look = f"timeout --foreground --signal INT 5 script --quiet --return --command {live.strip()!r} top || test $? -le 130"
    script = f"trap 'cutor down > /dev/null' EXIT\n{up}(cd '{tmp_path}'; {look})\n{''.join(others)}"
    script += f"cp -r \"$data/metrics\" '{tmp_path}/metrics'"
    done = run(script, surroundings(tmp_path) | {"TERM": "xterm"})
    assert done.returncode == 0, (done.stdout, done.stderr)
    seen = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", (tmp_path / "top").read_text())
    [shown] = snippets(OBSERVE, "text")
    headings = re.findall(r"^(?:cutor top|[a-z]+(?: minute)?)(?= )", shown.text, re.MULTILINE)
    assert {"cutor top", "tenant", "worker", "a minute", "views", "streams"} <= set(headings)
    assert [word for word in headings if not re.search(rf"\b{word} ", seen)] == [], seen
    [prometheus] = snippets(OBSERVE, "yaml")
    [job] = yaml.safe_load(prometheus.text)["scrape_configs"]
    [pattern] = (one for files in job["file_sd_configs"] for one in files["files"])
    found = {path.stem for path in tmp_path.glob(str(Path(pattern).relative_to("/srv/cutor")))}
    assert found >= {"builder", "runner", "projector"}
    for said in (
        "6f1c2a-logged",
        '"appended": {"kind": "finished"',
        "1 runner, 1 projector",
        '"workers":[{',
        '"cutor_role":"projector"',
        'behind_messages{stream="EVENTS"} 0.0',
    ):
        assert said in done.stdout, (said, done.stdout)


def test_a_question_is_asked_from_a_file(stack: Stack, tmp_path: Path) -> None:
    done = run(f"cd '{tmp_path}'\n" + "".join(one.text for one in snippets(ASK, "sh")), stack.environment)
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert (tmp_path / "answer.csv").read_text().startswith("outcome,submissions\n")


def test_a_program_hands_in_until_it_is_stored(stack: Stack) -> None:
    """Twice under one id, so that it is one submission; what is wrong with the request is not tried again."""
    [function] = snippets(DELIVERY, "python")
    names: dict[str, Any] = {}
    exec(compile(function.text, DELIVERY.name, "exec"), names)

    async def twice() -> set[str]:
        async with Client(stack.server) as client:
            example = str(EXAMPLES / "python-three-tests")
            found = {(await names["hand_in"](client, example, "handed-in")).id for _ in range(2)}
            with pytest.raises(InvalidRequest):
                await names["hand_in"](client, example, "no id")
            return found

    assert asyncio.run(twice()) == {"handed-in"}


def test_a_report_is_written(stack: Stack, tmp_path: Path) -> None:
    assert stack.result(str(EXAMPLES / "python-three-tests"), "--id", "6f1c2a-reported")["outcome"] == "OK"
    script = f"cd {tmp_path}\n" + "".join(one.text for one in snippets(REPORT, "sh"))
    done = run(script, stack.environment)
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert "week.html: " in done.stdout
    written = {path.stem for path in tmp_path.glob("*.html")}
    assert written == {"report", "week", "algorithms", "all", "then"}


def test_environments_are_seen_kept_and_given_up(tmp_path: Path, nix_settings: NixSettings) -> None:
    """On a stack and a store of its own."""
    environment = surroundings(tmp_path)
    write_config(Path(environment["XDG_CONFIG_HOME"]) / "cutor" / "config.toml", nix_settings)
    script = "".join(one.text for one in snippets(ENVIRONMENTS, "sh"))
    done = run(f"trap 'cutor down > /dev/null' EXIT\ncutor up --detach\n{script}", environment)
    assert done.returncode == 0, (done.stdout, done.stderr)
    for said in (
        " not selected",  # of whatever else is in the store of this machine
        "is pinned",
        "1 pinned",  # beside whatever else is in the store of this machine
        "is removed; `cutor gc`",
        "history",
        "(1 row)",
        "gcc (",
        "pinned      yes",
        "the environment was there already",
        "before      the same derivation",
        "deleted ",
    ):
        assert said in done.stdout, (said, done.stdout)


def test_a_cluster_of_three_and_many_hosts(tmp_path: Path) -> None:
    """Both pages, one after the other, on a copy of the configuration with other ports; a node is killed on the way."""
    environment = surroundings(tmp_path)
    config = Path(environment["XDG_CONFIG_HOME"]) / "cutor" / "config.toml"
    config.parent.mkdir(parents=True)
    [settings] = snippets(CLUSTER, "toml")
    config.write_text(settings.text)
    secrets = ROOT / "deploy" / "nats" / "cluster" / "secrets"
    before = secrets.exists()
    copy = DeployedCluster(tmp_path)
    shutil.rmtree(copy.home / "secrets")
    *commands, _ = snippets(CLUSTER, "sh")  # the last is for a cluster without streams: test_howto_cluster.py
    script = "".join(one.text for one in commands)
    copied, away = "cp -r deploy/nats/cluster ~/cutor-cluster\n", "kill $(jobs -p); wait\n"
    assert (script.count(copied), script.count(away)) == (1, 1)
    asked = 'export CUTOR_SERVER="$(cat "$secrets/analyst.url")"\n' + snippets(MANY_HOSTS, "sh")[-1].text
    script = script.replace(copied, "").replace(away, f"{asked}{away}").replace("~/cutor-cluster", str(copy.home))
    script = script.replace("~/cutor-secrets", f"{tmp_path}/three-machines")
    done = run(f"trap 'kill $(jobs -p) 2> /dev/null && wait || true' EXIT\n{script}", environment)
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert "(2 rows)" in done.stdout
    assert "FAIL" not in done.stdout, done.stdout
    assert "nats3.example.org:4222" in (tmp_path / "three-machines" / "admin.url").read_text()
    assert "copies" in done.stdout
    assert secrets.exists() == before, "the page makes its secrets in the copy"
    assert not copy.home.exists(), "what the page made is gone"


def test_the_refusal_that_the_page_on_clusters_shows(tmp_path: Path) -> None:
    shown = " ".join(snippets(CLUSTER, "text")[0].text.split())
    said = describe(
        Violation("publish", "cutor.ev.default.….submitted"), "cutor.ev.default.….submitted", user="analyst", address="tls://…"
    )
    assert shown == f"cutor: {said}"
