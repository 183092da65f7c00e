"""The last block of the page on clusters: the streams of a server that ran alone become those of a cluster."""

from __future__ import annotations

from pathlib import Path

from tests.bare_stack import User, request
from tests.cluster import NODES, DeployedCluster
from tests.docs.snippets import CLUSTER, run, snippets


def test_streams_of_a_single_server_move_into_a_cluster(user: User, tmp_path: Path) -> None:
    assert user.up().returncode == 0
    assert user.cutor("submit", "-", "--id", "moved", stdin=request()).returncode == 0
    cluster = DeployedCluster(tmp_path)
    [settings], block = snippets(CLUSTER, "toml"), snippets(CLUSTER, "sh")[-1]
    assert "streams restore" in block.text
    config = tmp_path / "three.toml"
    config.write_text(settings.text)
    try:
        for node in range(NODES):
            cluster.start(node)
        script = f"cd '{tmp_path}'\nsecrets='{cluster.home}/secrets'\n{block.text}\ncutor status moved\ncutor doctor || true\n"
        done = run(script, user.stack.environment | {"CUTOR_CONFIG": str(config)})
    finally:
        cluster.kill_all()
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert "SUBMITTED" in done.stdout
    assert "three copies" in done.stdout or "3 copies" in done.stdout, done.stdout
