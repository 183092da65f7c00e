"""The entry point of a build container: one environment, from files to captured variables and roots.

    root of the container ──▶ filters its network, if it has one         (network_filter)
                          ──▶ maps ids, becomes nobody, waits            (namespace)
      └ root of the build's user namespace: this module
          ├ shares the store's lock; takes one job from the host         (store, HostLink)
          ├ nix-daemon on the shared store volumes                       (daemon)
          ├ jail 1, with the daemon's socket: evaluate and build         (evaluate)
          ├ closure of what nix-shell would realise; the daemon is killed
          │   (where the store lacks what its database promises: mended, and the last two again)   (mending)
          ├ jail 2, without a socket: set-up script and hook, captured   (shell, variables)
          └ roots; the result to the host

It follows no name and believes no file that a jail could have touched: what it takes from them is paths that are checked
against the store, and bytes.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

from cutor.jail.inside import box
from cutor.jail.inside.box import BoxError
from cutor.jail.inside.cgroup import Cgroup, CgroupError
from cutor.jail.inside.channel import Program, pack_variables
from cutor.jail.inside.host_link import HostLink
from cutor.jail.inside.jail_process import Ids
from cutor.jail.inside.measure import Limits, Result
from cutor.jail.inside.nsjail_args import Jail, nsjail_command
from cutor.jail.inside.protocol import PROTOCOL_VERSION, ProtocolError
from cutor.jail.inside.stage import run_stage
from cutor.jail.inside.worker_init import MASKED_SINCE, kernel_version
from cutor.nix.inside import daemon, jails, mending, namespace, network_filter, store
from cutor.nix.inside.additions import Additions
from cutor.nix.inside.daemon import Daemon, DaemonError
from cutor.nix.inside.derivation import Derivation
from cutor.nix.inside.files import FilesError, make_directory, read_file
from cutor.nix.inside.job import BuildJob, decode_job, refused, remaining, succeeded, together
from cutor.nix.inside.mending import MENDINGS_AT_MOST
from cutor.nix.inside.network_filter import FilterError
from cutor.nix.inside.progress import ProgressLink
from cutor.nix.inside.shell import DUMP_PROGRAM, EXIT_TOO_LARGE, ShellError, script, shell_of
from cutor.nix.inside.store import BuildsLock, Closure, OutOfTime, StoreError, TooManyPaths
from cutor.nix.inside.store_watch import NoRoom, Room, StoreWatch, complaint_of_hidden, complaint_of_kept
from cutor.nix.inside.variables import MAX_TOTAL_BYTES, CaptureError, Variables, read_capture, search_path

IN_NAMESPACE: Final = "CUTOR_IN_NAMESPACE"
JAILED: Final = Ids(namespace.JAIL_ID, namespace.JAIL_ID)
MAX_RESULT_BYTES: Final = 4096
"""What the evaluation says is two store paths of at most 255 bytes each."""
TASKS_BESIDE: Final = 16
"""More processes than the container has beside a jail's: as many as the host gives it for them (`session.OWN_PROCESSES`)."""
MAX_CAPTURE_BYTES: Final = MAX_TOTAL_BYTES + (64 << 10)
"""The variables, and what else stands around them in the file: somewhat more than is taken, so that too much is told."""


class Refused(Exception):
    """The submission's own failure, with the report of its stage; the message is for the user, where there is one."""

    def __init__(self, result: Result, message: str | None = None) -> None:
        super().__init__(message)
        self.result = refused(result)
        self.message = message


class Realised(NamedTuple):
    """What stands in the store after the first jail: the shell, the tools, and the closure of both."""

    path: str
    shell: Derivation
    tools: Derivation
    roots: tuple[str, ...]
    closure: Closure

    def tool(self, package: bytes, program: str) -> str | None:
        """Return the path of a program of the package set's, where the set has the package and a jail can be given it."""
        path = os.fsdecode(self.tools.environment.get(package, b""))
        return store.program_at(f"{path}/bin/{program}", frozenset(self.closure.paths))


class Build:
    """One build: its job, its clocks, its way through the two jails."""

    def __init__(self, job: BuildJob, link: HostLink, cgroup: Cgroup, lock: BuildsLock) -> None:
        self._job = job
        self._link = link
        self._cgroup = cgroup
        self._lock = lock
        self._room = Room(str(store.STORE), job.min_free_bytes, str(store.STATE / "ending.lock"))

    def run(self) -> None:
        """Build, and tell the host how it ended. Raises one of `FAULTS` where cutor failed."""
        refused_before = self._cgroup.refused_tasks()
        try:
            self._built()
        except Refused as failure:
            header = {
                "type": "failed",
                "report": failure.result.header(),
                "message": failure.message,
                "tasks_refused": self._cgroup.refused_tasks() > refused_before,
            }
            self._link.send(header, failure.result.body())

    def _built(self) -> None:
        self._room.check()
        self._prepare()
        first, realised, elapsed_ms = self._realise()
        result, variables = self._capture(realised, first, elapsed_ms)
        programs = self._programs(realised, variables, result)
        store.make_roots(self._job.key, realised.roots)
        closure = "".join(f"{path}\n" for path in realised.closure.paths).encode()
        header = {
            "type": "built",
            "report": result.header(),
            "derivation": realised.path,
            "closure_text_bytes": len(closure),
            "closure_bytes": realised.closure.size_bytes,
            "programs": programs,
        }
        self._link.send(header, [*result.body(), closure, *(b"%b=%b\0" % variable for variable in variables)])

    def _prepare(self) -> None:
        for directory in (jails.SOURCES, jails.HOME, jails.CAPTURE):
            make_directory(directory, namespace.JAIL_ID)
        make_directory(jails.ATTRIBUTES, 0)
        make_directory(jails.MASK, 0, 0o111)
        shutil.copyfile(DUMP_PROGRAM, jails.DUMP_COPY)
        os.chmod(jails.DUMP_COPY, 0o755)  # noqa: PTH101, S103 - a program of cutor's own, for every user
        for name, data in self._job.files:
            box.write_file(jails.SOURCES, name, data)

    def _realise(self) -> tuple[Result, Realised, int]:
        """Return the first jail's report, what it left in the store, and how many milliseconds that took.

        Where the store lacks what its database promises, it is mended and all of it is done again, with the whole limits: the
        loss is not the submission's. Raises `Refused` for a failure that the store has no part in, `StoreError` for a store
        that can't be mended.
        """
        for times in range(MENDINGS_AT_MOST + 1):
            started_ns = time.monotonic_ns()
            try:
                first, realised = self._realise_once(started_ns)
            except Refused as failure:
                lost = self._lost_by(failure.result)
                if not lost:
                    raise
            else:
                if not (lost := store.absent(realised.closure.paths)):
                    return first, realised, _elapsed_ms(started_ns)
            if times < MENDINGS_AT_MOST:
                self._mend(lost)
        raise StoreError(BEYOND_REPAIR.format(path=lost[0], others=len(lost) - 1))

    def _realise_once(self, started_ns: int) -> tuple[Result, Realised]:
        limits = self._job.limits
        additions = Additions()
        own_daemon = daemon.start(self._job.daemon_configuration, limits.file_size_bytes, limits.open_files)
        try:
            first = self._evaluate(additions, own_daemon)
            realised = self._realised(first, started_ns)
            if complaint := complaint_of_kept(additions, self._job.store_bytes, realised.closure.paths):
                raise _too_large(first, complaint)
            return first, realised
        except Refused as failure:
            if _failed_by_itself(failure.result):
                own_daemon.check_answers()  # without a daemon everything fails: that is not the submission's doing
                self._room.check_while_building()  # on a full disk, too
            raise
        finally:
            own_daemon.stop()
            additions.remove_unfinished(self._unknown)
            additions.close()
            self._room.end()

    def _lost_by(self, result: Result) -> list[str]:
        """Return what the store lacks where that may be why a build failed."""
        return self._in_store("look") if _failed_by_itself(result) else []

    def _in_store(self, task: Literal["look", "mend"]) -> list[str]:
        limits = self._job.limits
        return mending.in_jail(task, self._job.daemon_configuration, limits.file_size_bytes, limits.open_files)

    def _unknown(self, names: Sequence[str]) -> frozenset[str]:
        """Return which of these names in the store are not valid to Nix (`tidying.Unknown`). The daemon must not run."""
        limits = self._job.limits
        return mending.unknown(names, self._job.daemon_configuration, limits.file_size_bytes, limits.open_files)

    def _mend(self, lost: list[str]) -> None:
        """Mend the store, alone, and make room for another evaluation."""
        self._link.send({"type": "mending", "missing": lost[0], "count": len(lost)})
        with self._lock.alone():
            self._in_store("mend")
        box.remove_tree(jails.WORK, jails.HOME.rpartition("/")[2])
        make_directory(jails.HOME, namespace.JAIL_ID)

    def _evaluate(self, additions: Additions, own_daemon: Daemon) -> Result:
        """Run Nix in the first jail. Raises `Refused` where it fails or passes a limit, `NoRoom` where the disk is full."""
        job = self._job
        arguments = ["/usr/bin/python3", "-S", "-c", EVALUATE, *job.options]
        variables = daemon.CLIENT_VARIABLES | {"HOME": "/home", "NIX_PATH": job.nix_path, "IN_NIX_SHELL": "pure"}
        program = Program(
            [argument.encode() for argument in arguments],
            pack_variables({name.encode(): value.encode() for name, value in variables.items()}),
        )
        command = nsjail_command(jails.evaluation_jail(job.policy, network=job.network))
        if job.network:
            command.insert(1, "--disable_clone_newnet")
        progress = ProgressLink(self._link, f"{jails.HOME}/progress", namespace.JAIL_ID)
        watch = StoreWatch(progress, additions, job.store_bytes, self._room)
        first = run_stage(
            command, program, _of_jails(job.limits), b"", host=watch, cgroup=self._cgroup, run_as=JAILED, keep_tail=True
        )
        watch.finish()
        watch.close()
        progress.close()
        if watch.no_room is not None:
            own_daemon.stop()
            if complaint := complaint_of_hidden(additions, job.store_bytes, self._room.given_back_bytes()):
                raise _too_large(first, complaint)
            raise watch.no_room
        if watch.complaint is not None and (succeeded(first) or first.killed_by == "store"):
            raise _too_large(first, watch.complaint)
        if not succeeded(first):
            raise Refused(first)
        return first

    def _realised(self, first: Result, started_ns: int) -> Realised:
        """Return what the first jail left, as the store has it: nothing else that it wrote is believed.

        Raises `Refused` for what is none, and for a closure that takes what the build had left of its limits.
        """
        try:
            paths = json.loads(read_file(f"{jails.HOME}/result.json", MAX_RESULT_BYTES) or b"")
            path, tools_path = str(paths["shell"]), str(paths["tools"])
            shell, tools = store.read_derivation(path), store.read_derivation(tools_path)
            roots = (*store.realised_for(shell), *store.realised_for(tools))
        except (FilesError, ValueError, KeyError, TypeError) as error:  # DerivationError is a ValueError
            raise Refused(first, f"the evaluation left no shell that can be read: {error}") from error
        oom_kills = self._cgroup.oom_kills()
        try:
            closure = store.closure_of(roots, self._job.limits.wall_time_ms / 1000 - _elapsed_ms(started_ns) / 1000)
        except TooManyPaths as error:
            raise Refused(first, str(error)) from error
        except OutOfTime as error:
            late = first._replace(exit_code=None, killed_by="wall_time", wall_time_ms=_elapsed_ms(started_ns))
            raise Refused(late) from error
        except StoreError as error:
            if not (kills := self._cgroup.oom_kills() - oom_kills):
                raise
            raise Refused(first._replace(exit_code=None, oom_kills=kills)) from error
        return Realised(path, shell, tools, roots, closure)

    def _capture(self, realised: Realised, first: Result, elapsed_ms: int) -> tuple[Result, Variables]:
        """Run set-up script and hook in the second jail.

        Raises `Refused` where no environment comes out, `StoreError` where it went while it was captured.
        """
        try:
            return self._captured(realised, first, elapsed_ms)
        except Refused as failure:
            if lost := store.absent(realised.closure.paths):
                raise StoreError(f"{lost[0]} vanished from the store while the environment was captured") from failure
            raise

    def _captured(self, realised: Realised, first: Result, elapsed_ms: int) -> tuple[Result, Variables]:
        job = self._job
        bash = realised.tool(b"bash", "bash")
        try:
            shell = shell_of(realised.shell, job.cores)
        except ShellError as error:
            raise Refused(first, str(error)) from error
        for name, data in shell.files.items():
            box.write_file(jails.ATTRIBUTES, name, data)
        arguments = [bash or DUMP_PROGRAM, "-c", script(bash, jails.CAPTURE_FILE)]
        program = Program([argument.encode() for argument in arguments], pack_variables(shell.variables))
        command = nsjail_command(self._capture_jail(realised))
        limits = remaining(job.limits, first, elapsed_ms)
        second = run_stage(
            command, program, _of_jails(limits), b"", host=self._link, cgroup=self._cgroup, run_as=JAILED, keep_tail=True
        )
        result = together(first, second, elapsed_ms)
        if second.exit_code == EXIT_TOO_LARGE and second.killed_by is None:
            raise Refused(result, TOO_LARGE)
        if not succeeded(result):
            raise Refused(result, f"the shellHook ended with exit code {second.exit_code}" if second.exit_code else None)
        try:
            return result, read_capture(read_file(f"{jails.CAPTURE}/variables", MAX_CAPTURE_BYTES) or b"")
        except (CaptureError, FilesError) as error:
            raise Refused(result, str(error)) from error

    def _capture_jail(self, realised: Realised) -> Jail:
        links = {"/bin/sh": realised.tool(b"bash", "sh") or DUMP_PROGRAM}
        if env := realised.tool(b"coreutils", "env"):
            links["/usr/bin/env"] = env
        masked = kernel_version(os.uname().release) >= MASKED_SINCE
        return jails.capture_jail(self._job.policy, links, masked=masked)

    def _programs(self, realised: Realised, variables: Variables, result: Result) -> dict[str, str]:
        """Return what runs scripts, and what ``sh`` and ``env`` are: of the environment's PATH, else of the package set."""
        closure = frozenset(realised.closure.paths)
        directories = search_path(variables)
        bash = store.find_program("bash", directories, closure) or realised.tool(b"bash", "bash")
        env = store.find_program("env", directories, closure) or realised.tool(b"coreutils", "env")
        if bash is None or env is None:
            raise Refused(result, NO_PROGRAMS)
        sh = store.find_program("sh", (*directories, bash.rpartition("/")[0]), closure)
        return {"bash": bash, "sh": sh or bash, "env": env}


EVALUATE: Final = "import sys; sys.path.insert(0, '/opt/cutor'); from cutor.nix.inside.evaluate import run; run()"
NO_PROGRAMS: Final = (
    "neither the environment nor <nixpkgs> has bash and env: add bash and coreutils to packages (executable files of the"
    " environment count, at paths of letters, digits and + - . _ ? = only)"
)
TOO_LARGE: Final = (
    "the environment is too large to be passed to a program: Linux takes 128 KiB a variable and 2 MiB together;"
    " don't export large values in the shellHook"
)
BEYOND_REPAIR: Final = (
    "{path} and {others} other paths are missing from the store volume, though Nix's database says that they are valid, and"
    " they could not be made anew: restore them, or remove the store and its database (`cutor setup --purge`) and make them"
    " with `cutor setup`"
)
FAULTS: Final = (StoreError, NoRoom, DaemonError, FilesError, BoxError, CgroupError, ProtocolError, OSError)


def serve() -> int:
    """Take one job and do it, as root of the namespace; return the exit code."""
    link = HostLink()
    try:
        lock = store.hold_lock(lambda: link.send({"type": "waiting"}))
        cgroup = Cgroup()
        link.send({"type": "ready", "protocol": PROTOCOL_VERSION, "nix_version": nix_version()})
        if (command := link.next()) is not None:
            Build(decode_job(command), link, cgroup, lock).run()
    except FAULTS as error:
        no_room = isinstance(error, NoRoom)
        link.send({"type": "fault", "message": f"{type(error).__name__}: {error}"[:2000], "no_room": no_room})
        return 1
    return 0


def _of_jails(limits: Limits) -> Limits:
    """Return the limits of a jail's own processes. Their number is the container's to bound: it says when it refused one."""
    return limits._replace(processes=limits.processes + TASKS_BESIDE)


def _failed_by_itself(result: Result) -> bool:
    """Return whether a program ended with a failure, and passed no limit: something that it needs may have been missing."""
    return result.killed_by is None and not result.oom_kills and result.fault is None and bool(result.exit_code)


def _too_large(result: Result, complaint: str) -> Refused:
    """Return the failure of a build that adds more to the store than it may, however it ended."""
    return Refused(result._replace(exit_code=None, signal_number=None, killed_by="store"), complaint)


def _elapsed_ms(started_ns: int) -> int:
    return (time.monotonic_ns() - started_ns) // 1_000_000


def nix_version() -> str:
    """Return what ``nix --version`` prints, in the image that this runs in."""
    done = subprocess.run(["/usr/bin/nix", "--version"], env={}, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    return done.stdout.decode(errors="replace").strip()[:80]


def main() -> None:
    """Enter the namespace, then serve. Started anew inside: a process that changed its ids may not write its own /proc."""
    if IN_NAMESPACE in os.environ:
        sys.exit(serve())
    try:
        network_filter.set_up(sys.argv[1:])
    except FilterError as error:
        HostLink().send({"type": "fault", "message": str(error)})
        sys.exit(1)
    os.environ[IN_NAMESPACE] = "1"
    sys.exit(namespace.run_in_namespace(lambda: os.execv(sys.executable, sys.orig_argv)))  # noqa: S606 - no shell is wanted
