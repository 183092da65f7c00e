"""Data directory, lock, current-stack file and logs: what they hold, who may read them, what they refuse."""

import fcntl
import json
import os
import shutil
import stat
import threading
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from cutor.bus.topology import default_text
from cutor.config import Config, Surroundings
from cutor.private_files import write_privately
from cutor.stack import current, place
from cutor.stack.current import CurrentStack, CurrentStackDamaged
from cutor.stack.data import DataDirectory, DataDirectoryUnusable
from cutor.stack.finding import NoStack, find_server, named_server
from cutor.stack.lock import (
    AlreadyRunning,
    Lock,
    is_free,
    opened_holder,
    read_holder,
    start_time_ticks,
    wait_free,
)
from cutor.stack.logs import Log, last_lines
from cutor.stack.ownership import objection
from cutor.stack.place import Place, boot
from cutor.stack.settings import ServerSettings
from cutor.stack.stopping import Stopped, stop_stack
from cutor.stack.streams import wanted

STACK = CurrentStack(server="nats://cutor:secret@127.0.0.1:4222", data="/data", instance="0123456789ab")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_data_directory_is_its_owners_alone(tmp_path: Path) -> None:
    data = DataDirectory(tmp_path / "deep" / "data")
    assert not data.exists()
    data.prepare()
    assert mode(data.path) == 0o700
    assert mode(data.logs) == 0o700


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(DataDirectoryUnusable, match=r"data cannot be the data directory: File exists"):
        DataDirectory(tmp_path / "data").prepare()


def test_a_directory_that_others_may_write_to_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    data = DataDirectory(tmp_path / "data")
    for writable in (0o777, 0o775, 0o1777):
        data.path.mkdir(exist_ok=True)
        data.path.chmod(writable)
        with pytest.raises(
            DataDirectoryUnusable, match=rf"cannot be the data directory: others may write .* `chmod go-w {data.path}`"
        ):
            data.prepare()
        assert list(data.path.iterdir()) == []
    data.path.chmod(0o755)
    data.prepare()
    (data.path / "in-hand").mkdir()
    (data.path / "in-hand").chmod(0o777)
    with pytest.raises(DataDirectoryUnusable, match=rf"others may write to {data.path}/in-hand in it"):
        data.prepare()


def test_down_obeys_no_directory_that_others_may_write_to(tmp_path: Path) -> None:
    """What is in it would decide whom this user signals, and what is removed in this user's name."""
    lock = Lock.take(tmp_path / "lock")
    tmp_path.chmod(0o777)
    with pytest.raises(DataDirectoryUnusable, match="others may write"):
        stop_stack(DataDirectory(tmp_path), tmp_path / "current.json", None, 1.0)
    lock.release(orderly=True)


def test_another_users_directory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = DataDirectory(tmp_path / "data")
    data.prepare()
    me = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: me + 1)
    with pytest.raises(DataDirectoryUnusable, match=rf"belongs to another user \({me}\)"):
        data.prepare()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make what belongs to somebody else")
@pytest.mark.parametrize(
    "planted", ["log", "nats", "in-hand", "in-hand/runner", "log/supervisor.log", "nats/nats-password", "config.toml"]
)
def test_what_another_user_put_into_it_is_refused(tmp_path: Path, planted: str) -> None:
    """Who could write there once may have left a link, or a password that he knows."""
    place = tmp_path / "data" / planted
    place.parent.mkdir(parents=True)
    place.symlink_to(tmp_path)
    os.lchown(place, 65534, 65534)
    data = DataDirectory(tmp_path / "data")
    with pytest.raises(DataDirectoryUnusable, match=rf"{place} in it belongs to another user \(65534\)"):
        data.prepare()
    place.unlink()
    data.prepare()


def test_what_this_user_linked_is_his_own_decision_and_what_cutor_has_no_name_for_nobodys_matter(tmp_path: Path) -> None:
    data = DataDirectory(tmp_path / "data")
    (tmp_path / "disk").mkdir()
    data.path.mkdir()
    data.server.symlink_to(tmp_path / "disk")
    (data.path / "shared").mkdir()
    (data.path / "shared").chmod(0o777)
    data.prepare()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make what belongs to somebody else")
@pytest.mark.parametrize("owner", [0, 65534])
def test_what_a_disk_of_its_own_has_beside_the_streams_is_in_nobodys_way(tmp_path: Path, owner: int) -> None:
    """`mkfs.ext4` makes `lost+found`, root's, or that of whom root is in the name space of users that it was made in."""
    data, disk = DataDirectory(tmp_path / "data"), tmp_path / "disk"
    data.path.mkdir()
    disk.mkdir()
    data.server.symlink_to(disk)
    (disk / "lost+found").mkdir(mode=0o700)
    os.chown(disk / "lost+found", owner, owner)
    data.prepare()
    (disk / "jetstream").mkdir()
    os.chown(disk / "jetstream", 65534, 65534)
    with pytest.raises(DataDirectoryUnusable, match=r"nats/jetstream in it belongs to another user \(65534\)"):
        data.prepare()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make what belongs to somebody else")
def test_what_root_has_in_a_users_directory_is_in_nobodys_way_beneath_its_first_level(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, user = tmp_path / "data", 65534
    for made in (data, data / "in-hand", data / "in-hand" / "lost+found", data / "roles"):
        made.mkdir(mode=0o700)
    for users in (data, data / "in-hand"):
        os.chown(users, user, user)
    monkeypatch.setattr(os, "geteuid", lambda: user)
    assert (why := objection(data)) is not None
    assert f"{data}/roles in it belongs to another user (0)" in why
    os.chown(data / "roles", user, user)
    assert objection(data) is None


def test_a_log_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("as it was")
    (tmp_path / "a.log").symlink_to(tmp_path / "kept")
    with pytest.raises(DataDirectoryUnusable, match=r"a\.log cannot be written"):
        Log(tmp_path / "a.log")
    assert (tmp_path / "kept").read_text() == "as it was"


def test_the_instance_is_made_once_and_kept(tmp_path: Path) -> None:
    data = DataDirectory(tmp_path)
    data.prepare()
    assert data.instance() is None
    made = data.make_instance()
    assert data.make_instance() == made == data.instance()
    assert mode(data.instance_file) == 0o600


def test_a_copy_gets_a_name_of_its_own_and_a_moved_directory_keeps_the_one_it_has(tmp_path: Path) -> None:
    data, said = DataDirectory(tmp_path / "data"), list[str]()
    data.prepare()
    name = data.make_instance(said.append)
    copied = DataDirectory(tmp_path / "copied")
    shutil.copytree(data.path, copied.path)
    assert (copied.is_copy(), copied.instance()) == (True, None)
    own = copied.make_instance(said.append)
    assert own != name
    assert (copied.is_copy(), copied.instance(), copied.make_instance(said.append)) == (False, own, own)
    assert [name in line and own in line for line in said] == [True]

    moved = DataDirectory(data.path.rename(tmp_path / "moved"))
    assert moved.make_instance(said.append) == name
    assert len(said) == 1


def test_a_name_without_a_record_of_its_directory_is_kept_and_recorded(tmp_path: Path) -> None:
    """As of a cutor that recorded none."""
    data = DataDirectory(tmp_path / "data")
    data.prepare()
    data.instance_file.write_text("0123456789ab\n")
    for damaged in (None, "", "{", '{"inode": "x"}'):
        if damaged is not None:
            data.place_file.write_text(damaged)
        assert data.make_instance() == data.instance() == "0123456789ab"
        assert place.read(data.place_file) == Place.of(data.path)


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (Place(inode=1, device=2, boot="b"), True),
        (Place(inode=3, device=2, boot="b"), False),
        (Place(inode=1, device=3, boot="b"), False),
        (Place(inode=1, device=3, boot="another"), True),
        (Place(inode=3, device=2, boot="another"), False),
        (Place(inode=1, device=3), True),
    ],
)
def test_devices_are_compared_within_a_boot_alone(other: Place, same: bool) -> None:
    assert Place(inode=1, device=2, boot="b").is_same(other) is same


DISK, MOUNT = os.makedev(8, 1), os.makedev(0, 45)


@pytest.mark.parametrize(
    ("before", "after", "same"),
    [
        (Place(inode=2, device=DISK, boot="b", file_system=7), Place(inode=2, device=DISK, boot="c", file_system=7), True),
        (Place(inode=2, device=DISK, boot="b", file_system=7), Place(inode=2, device=DISK, boot="c", file_system=8), False),
        (Place(inode=2, device=MOUNT, boot="b", file_system=7), Place(inode=2, device=MOUNT, boot="b", file_system=8), False),
        (
            Place(inode=2, device=MOUNT, boot="b", file_system=7),
            Place(inode=2, device=MOUNT + 1, boot="b", file_system=7),
            True,
        ),
        (Place(inode=2, device=MOUNT, boot="b"), Place(inode=2, device=MOUNT + 1, boot="b"), False),
        (Place(inode=2, device=MOUNT, boot="b"), Place(inode=2, device=MOUNT + 1, boot="b", file_system=7), False),
        (Place(inode=2, device=DISK, boot="b", file_system=7), Place(inode=2, device=DISK + 1, boot="b", file_system=7), False),
        (Place(inode=2, device=DISK, boot="b"), Place(inode=2, device=DISK + 1, boot="c", file_system=7), True),
        (Place(inode=2, device=DISK, boot="b", file_system=7), Place(inode=3, device=DISK, boot="b", file_system=7), False),
    ],
    ids=[
        "rebooted",
        "the root of another disk",
        "a snapshot",
        "mounted anew",
        "mounted anew, no id",
        "mounted anew, recorded without an id",
        "a disk copied block by block",
        "recorded without an id, rebooted",
        "a copy beside it",
    ],
)
def test_the_id_of_a_file_system_counts_for_more_than_the_number_of_its_device(before: Place, after: Place, same: bool) -> None:
    assert (before.is_same(after), after.is_same(before)) == (same, same)


@pytest.mark.parametrize(("told", "kept"), [(0, None), (2049, None), (11536687566327337621, 11536687566327337621)])
def test_an_id_that_is_a_devices_number_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: int, kept: int | None
) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_fsid=told))
    data = DataDirectory(tmp_path)
    data.make_instance()
    assert (recorded := place.read(data.place_file)) is not None
    assert recorded.file_system == kept


def test_down_of_a_copy_waits_for_nobody_and_looks_for_no_containers_of_its_original(tmp_path: Path) -> None:
    data, current_file = DataDirectory(tmp_path / "data"), tmp_path / "current.json"
    data.prepare()
    data.make_instance()
    lock = Lock.take(data.lock)
    copied = DataDirectory(tmp_path / "copied")
    shutil.copytree(data.path, copied.path)
    assert read_holder(copied.lock) is not None
    assert stop_stack(copied, current_file, "unix:///nowhere", 60.0) == Stopped(was_running=False, was_dead=False, is_copy=True)
    lock.release(orderly=True)


def test_a_copy_of_a_living_stack_is_seen_to_as_one_after_a_power_failure(tmp_path: Path) -> None:
    data = DataDirectory(tmp_path / "data")
    data.prepare()
    data.make_instance()
    lock = Lock.take(data.lock)
    data.server.mkdir()
    copied = DataDirectory(tmp_path / "copied")
    shutil.copytree(data.path, copied.path)
    lock.release(orderly=False)
    Lock.take(copied.lock).release(orderly=True)
    Lock.take(data.lock).release(orderly=True)
    assert (copied.power_failed.exists(), data.power_failed.exists()) == (True, False)


def test_a_damaged_instance_is_refused(tmp_path: Path) -> None:
    data = DataDirectory(tmp_path)
    data.instance_file.write_text("../../etc")
    with pytest.raises(DataDirectoryUnusable, match="instead of twelve hexadecimal digits"):
        data.make_instance()


def test_a_lock_is_held_once_and_names_its_holder(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    lock = Lock.take(path)
    assert not is_free(path)
    holder = read_holder(path)
    assert holder is not None
    assert (holder.pid, holder.started_ticks) == (os.getpid(), start_time_ticks(os.getpid()))
    with pytest.raises(AlreadyRunning, match=f"with pid {os.getpid()}"):
        Lock.take(path)
    lock.release(orderly=False)
    assert is_free(path)
    assert read_holder(path) == holder


def test_an_orderly_end_leaves_no_name(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    Lock.take(path).release(orderly=True)
    assert read_holder(path) is None
    Lock.take(path).release(orderly=True)


@pytest.mark.parametrize(
    ("holder", "noted"),
    [
        ({"pid": 1, "started_ticks": 0, "boot": "another"}, True),
        ({"pid": 1, "started_ticks": 0}, True),
        ({"pid": 1, "started_ticks": 0, "boot": boot()}, False),
        ("ended\n", False),
        ("", True),
        ("{", True),
    ],
    ids=["another boot", "not known", "this boot", "an orderly end", "nothing", "half of a name"],
)
@pytest.mark.parametrize("way", ["take", "take over"])
def test_who_gets_the_lock_of_a_life_of_another_boot_notes_it(
    tmp_path: Path, holder: dict[str, object] | str, noted: bool, way: str
) -> None:
    data = DataDirectory(tmp_path)
    data.server.mkdir()
    data.lock.write_text(holder if isinstance(holder, str) else json.dumps(holder))
    dead = read_holder(data.lock)
    noted = noted and (way == "take" or dead is not None)
    if way == "take":
        Lock.take(data.lock).release(orderly=True)
    elif dead is not None:
        lock = Lock.take_over(data.lock, dead)
        assert lock is not None
        lock.release(orderly=True)
    assert data.power_failed.exists() == noted


def test_a_directory_without_streams_has_nothing_to_note(tmp_path: Path) -> None:
    data = DataDirectory(tmp_path)
    data.lock.write_text('{"pid": 1, "started_ticks": 0, "boot": "another"}')
    Lock.take(data.lock).release(orderly=True)
    assert not data.power_failed.exists()


def test_a_lock_lasts_until_the_last_inheritor_has_gone(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    lock = Lock.take(path)
    inherited = [os.dup(descriptor) for descriptor in lock.descriptors]
    lock.release(orderly=True)
    for descriptor in inherited:
        assert not wait_free(path, timeout_s=0.0)
        os.close(descriptor)
    assert wait_free(path, timeout_s=0.0)


def test_a_lock_whose_file_is_removed_is_held_and_its_holder_found(tmp_path: Path) -> None:
    path = tmp_path / "data" / "lock"
    path.parent.mkdir()
    lock = Lock.take(path)
    for removed in (True, False):
        if removed:
            path.unlink()
        else:
            path.write_text("")
        assert not is_free(path)
        with pytest.raises(AlreadyRunning, match=f"with pid {os.getpid()};"):
            Lock.take(path)
        with opened_holder(path) as holder:
            assert holder is not None
            assert f"Pid:\t{os.getpid()}\n" in Path(f"/proc/self/fdinfo/{holder}").read_text()
    lock.release(orderly=True)
    assert is_free(path)
    with opened_holder(path) as holder:
        assert holder is None


def test_a_start_says_who_it_is_before_anything_else_and_the_disk_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power failure leaves what was forced to the disk: first the note about a former life, then the name of this one."""
    data = DataDirectory(tmp_path)
    data.server.mkdir()
    data.lock.write_text('{"pid": 1, "started_ticks": 0, "boot": "another"}')
    forced: list[tuple[str, bool, bool]] = []

    def fsync(descriptor: int) -> None:
        what = Path(f"/proc/self/fd/{descriptor}").readlink().name
        named = (held := read_holder(data.lock)) is not None and held.pid == os.getpid()
        forced.append((what, data.power_failed.exists(), named))

    monkeypatch.setattr(os, "fsync", fsync)
    lock = Lock.take(data.lock)
    draft, *rest = forced
    assert draft[0].startswith(".power-failed.")
    assert rest == [(tmp_path.name, True, False), ("lock", True, True), (tmp_path.name, True, True)]
    lock.release(orderly=True)


def test_a_pid_that_was_given_to_another_process_is_never_signalled(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.write_text(f'{{"pid": {os.getpid()}, "started_ticks": 1}}')
    with opened_holder(path) as holder:
        assert holder is None


def test_no_holder_is_nobody_to_signal(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("garbage")
    for name in ("none", "lock"):
        with opened_holder(tmp_path / name) as holder:
            assert holder is None


def test_a_lock_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataDirectoryUnusable):
        Lock.take(tmp_path / "lock")
    assert not (tmp_path / "elsewhere").exists()


def test_the_current_stack_file_is_private_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "state" / "cutor" / "current.json"
    current.write(path, STACK)
    assert mode(path) == 0o600
    assert current.read(path) == STACK
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["current.json", "current.json.lock"]


def test_only_the_owner_of_the_current_stack_file_removes_it(tmp_path: Path) -> None:
    path = tmp_path / "current.json"
    current.write(path, STACK)
    assert not current.remove(path, "ba9876543210")
    assert current.remove(path, STACK.instance)
    assert current.read(path) is None
    assert not current.remove(path, STACK.instance)


def test_the_stack_that_still_runs_is_current_again_when_a_later_one_ends(tmp_path: Path) -> None:
    path = tmp_path / "current.json"
    stacks = [CurrentStack(server=f"nats://{n}", data=str(tmp_path / n), instance=n) for n in ("a", "b", "c")]
    locks = []
    for stack in stacks:
        Path(stack.data).mkdir()
        locks.append(Lock.take(Path(stack.data) / "lock"))
        current.write(path, stack)
    assert current.remove(path, "b")
    assert (known := current.read(path)) is not None
    assert known.instance == "c"
    assert current.remove(path, "c")
    assert (known := current.read(path)) is not None
    assert (known.instance, known.server) == ("a", "nats://a")
    locks[0].release(orderly=True)
    current.write(path, stacks[1])
    assert (known := current.read(path)) is not None
    assert (known.instance, known.previous) == ("b", None), "a stack that ended is not remembered"
    for lock in locks[1:]:
        lock.release(orderly=True)


def test_a_server_that_moved_is_known_in_the_place_of_its_stack(tmp_path: Path) -> None:
    path = tmp_path / "current.json"
    first, second = (CurrentStack(server=f"nats://{n}", data=str(tmp_path / n), instance=n) for n in ("a", "b"))
    (tmp_path / "a").mkdir()
    alive = Lock.take(tmp_path / "a" / "lock")
    current.write(path, first)
    current.write(path, second)
    current.move(path, "a", "nats://moved")
    current.move(path, "c", "nats://unknown")
    assert (known := current.read(path)) is not None
    assert (known.server, known.previous and known.previous.server) == ("nats://b", "nats://moved")
    assert mode(path) == 0o600
    alive.release(orderly=True)


@pytest.mark.parametrize("where", ["none/current.json", "current.json"])
def test_where_no_stack_is_known_none_is_moved(tmp_path: Path, where: str) -> None:
    if "/" in where:
        with pytest.raises(CurrentStackDamaged, match="cannot be written"):
            current.move(tmp_path / where, "a", "nats://moved")
    else:
        current.move(tmp_path / where, "a", "nats://moved")
    assert current.read(tmp_path / where) is None


def test_two_stacks_that_start_at_the_same_time_are_both_remembered(tmp_path: Path) -> None:
    path = tmp_path / "state" / "current.json"
    path.parent.mkdir()
    first, second = (CurrentStack(server=f"nats://{n}", data=str(tmp_path / n), instance=n) for n in ("a", "b"))
    (tmp_path / "a").mkdir()
    alive = Lock.take(tmp_path / "a" / "lock")
    busy = os.open(current.lock_path(path), os.O_RDWR | os.O_CREAT)
    fcntl.flock(busy, fcntl.LOCK_EX)  # the first one has read the file, and is about to write it
    writing = threading.Thread(target=current.write, args=(path, second))
    writing.start()
    writing.join(0.2)
    assert current.read(path) is None
    write_privately(path, msgspec.json.encode(first))
    os.close(busy)
    writing.join(60)
    assert (known := current.read(path)) is not None
    assert (known.instance, known.previous and known.previous.instance) == ("b", "a")
    alive.release(orderly=True)


def test_a_process_that_keeps_the_current_stack_file_locked_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cutor.stack.current.LOCK_TIMEOUT_S", 0.1)
    busy = os.open(current.lock_path(tmp_path / "current.json"), os.O_RDWR | os.O_CREAT)
    fcntl.flock(busy, fcntl.LOCK_EX)
    current.write(tmp_path / "current.json", STACK)
    os.close(busy)
    assert current.read(tmp_path / "current.json") == STACK


def test_forgetting_where_nothing_was_ever_started(tmp_path: Path) -> None:
    assert not current.remove(tmp_path / "none" / "current.json", STACK.instance)
    assert not current.remove(tmp_path / "current.json", STACK.instance)
    assert list(tmp_path.iterdir()) == [], "nothing is locked for it"


def test_forgetting_where_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    path = tmp_path / "current.json"
    current.write(path, STACK)
    current.lock_path(path).unlink()
    current.lock_path(path).symlink_to(tmp_path)
    with pytest.raises(CurrentStackDamaged, match=r"current\.json cannot be written: "):
        current.remove(path, STACK.instance)
    assert current.read(path) == STACK


def test_a_damaged_current_stack_file_is_named_without_its_content(tmp_path: Path) -> None:
    path = tmp_path / "current.json"
    path.write_text('{"server": "nats://cutor:secret@')
    with pytest.raises(CurrentStackDamaged, match=r"current.json cannot be read") as caught:
        current.read(path)
    assert "secret" not in str(caught.value)
    assert not current.remove(path, STACK.instance)


def test_the_server_is_the_option_then_the_environment_then_the_configuration_then_the_current_stack(tmp_path: Path) -> None:
    def around(server: str | None) -> Surroundings:
        return Surroundings(config_home=tmp_path, data_home=tmp_path, state_home=tmp_path, server=server)

    configured = Config(server=ServerSettings(url="nats://configured"))
    with pytest.raises(NoStack) as caught:
        find_server(None, around(None), Config())
    assert caught.value.exit_code == 3
    current.write(around(None).current_stack, STACK)
    assert find_server(None, around(None), Config()) == STACK.server
    assert find_server(None, around(None), configured) == "nats://configured"
    assert find_server(None, around("nats://environment"), configured) == "nats://environment"
    assert find_server("nats://option", around("nats://environment"), configured) == "nats://option"


def test_an_address_that_is_named_gets_the_files_of_tls(tmp_path: Path) -> None:
    def around(tls_ca: str | None) -> Surroundings:
        return Surroundings(config_home=tmp_path, data_home=tmp_path, state_home=tmp_path, tls_ca=tls_ca)

    configured = Config(server=ServerSettings(url="tls://a,tls://b", tls_ca="/ca", tls_cert="/c", tls_key="/k"))
    assert find_server(None, around(None), configured) == "tls://a,tls://b?tls_ca=/ca&tls_cert=/c&tls_key=/k"
    assert find_server("tls://x", around("/mine"), configured) == "tls://x?tls_ca=/mine&tls_cert=/c&tls_key=/k"
    assert find_server("tls://x?tls_ca=/own", around("/mine"), Config()) == "tls://x?tls_ca=/own"
    current.write(around(None).current_stack, STACK)
    assert find_server(None, around("/mine"), Config()) == STACK.server, "the embedded server needs none"


def test_a_program_that_names_a_server_needs_no_configuration_but_for_tls(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('[server]\ntls_ca = "/ca"\n')
    around = Surroundings(config_home=tmp_path, data_home=tmp_path, state_home=tmp_path, config_file=file)
    assert named_server("tls://a", around) == "tls://a?tls_ca=/ca"
    file.write_text("nonsense")
    assert named_server("nats://a", around) == "nats://a"


def test_as_many_copies_as_configured(tmp_path: Path) -> None:
    own = tmp_path / "streams.yaml"
    own.write_text(default_text())
    for file in (None, own):
        for replicas in (None, 3):
            topology = wanted(Config(server=ServerSettings(replicas=replicas)), file)
            assert {stream.config["num_replicas"] for stream in topology.streams} == {replicas or 1}


def test_a_log_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "role.log"
    log = Log(path, limit_bytes=100)
    for number in range(50):
        log.write(f"line {number:04}\n".encode())
    log.close()
    old = path.with_name("role.log.1")
    assert path.stat().st_size < 120
    assert old.stat().st_size < 120
    assert last_lines(path, 1) == ["line 0049"]


def test_last_lines_show_no_control_characters(tmp_path: Path) -> None:
    path = tmp_path / "role.log"
    path.write_bytes(b"first\n\n\x1b[31mlast\xff\n")
    assert last_lines(path, 5) == ["first", "\\x1b[31mlast\N{REPLACEMENT CHARACTER}"]
    assert last_lines(tmp_path / "none", 5) == []
