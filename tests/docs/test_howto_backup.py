"""The page on backups, followed from its first line to its last: a stack, a new one, a look, a server of one's own."""

from __future__ import annotations

from pathlib import Path

from tests.bare_stack import User, request
from tests.docs.snippets import HOW_TO, on_another_port, run, script_of

SYSTEMCTL = """
systemctl() {
  case "$1 $2" in
    "stop nats-server") kill %nats-server && { wait %nats-server || true; } ;;
    "start nats-server") nats-server -c DIRECTORY/deployed/single.conf &
      until cutor streams plan > /dev/null 2>&1; do sleep 0.2; done ;;
    *) return 1 ;;
  esac
}
"""
"""The page's server as a service of the machine: stopped and started, as systemd would."""


def test_streams_are_backed_up_and_restored(user: User, tmp_path: Path) -> None:
    assert user.up().returncode == 0
    assert user.cutor("submit", "-", "--id", "kept", stdin=request()).returncode == 0
    script = on_another_port(script_of(HOW_TO / "backup.md", srv=str(tmp_path)), tmp_path).replace(
        f"--data {tmp_path}/cutor-new", f"--data {tmp_path}/cutor-new --roles ''"
    )  # the same without roles: what was queued is still there to be counted
    script = script.replace("/var/lib/nats/", f"{tmp_path}/nats/")
    began = "systemctl start nats-server\n"
    assert script.count(began) == 1
    script = script.replace(began, f"{began}cutor streams restore {tmp_path}/backups/today\n")  # it "then begins anew"
    script = SYSTEMCTL.replace("DIRECTORY", str(tmp_path)) + script
    end = f"trap 'kill $(jobs -p) 2> /dev/null && wait; cutor down --data {tmp_path}/cutor-new > /dev/null || true' EXIT"
    done = run(f"{end}\n{script}\ncutor status kept || test $? = 1\n", user.stack.environment)
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert "(1 row)" in done.stdout
    assert done.stdout.count("is ready at") == 2, done.stdout
    assert done.stdout.count("is stopped") == 3, done.stdout
    assert "SUBMITTED" in done.stdout
    assert (tmp_path / "backups" / "today" / "manifest.json").exists()
    assert (tmp_path / "nats" / "jetstream.failed").is_dir()
    assert (tmp_path / "nats" / "jetstream").is_dir()
