"""What a program can see and do in its jail, and what it can not."""

from __future__ import annotations

import asyncio
import json
import signal

from tests.integration.stage_support import LIMIT, scripts, stages

CALLS = """
import ctypes, errno, json, os, socket, struct
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *arguments):
    ctypes.set_errno(0)
    value = libc.syscall(number, *arguments)
    return "done" if value >= 0 else errno.errorcode[ctypes.get_errno()]
def opened(make):
    try: make(); return "done"
    except OSError as error: return errno.errorcode[error.errno]
print(json.dumps({
    "unshare user": call(272, 0x10000000), "unshare net": call(272, 0x40000000), "setns": call(308, 0, 0),
    "clone user": call(56, 0x10000000 | 17, 0, 0, 0, 0), "clone3": call(435, 0, 88),
    "mount": call(165, b"none", b"/tmp", b"tmpfs", 0, 0), "umount": call(166, b"/proc", 0), "pivot_root": call(155, b".", b"."),
    "chroot": call(161, b"/tmp"), "fsopen": call(430, b"tmpfs", 0), "open_tree": call(428, -100, b"/", 1),
    "ptrace": call(101, 0, 0, 0, 0), "process_vm_readv": call(310, 1, 0, 0, 0, 0, 0), "pidfd_getfd": call(438, 0, 0, 0),
    "kcmp": call(312, 1, 1, 0, 0, 0), "keyctl": call(250, 0, -3, 0), "add_key": call(248, b"user", b"x", b"y", 1, -3),
    "bpf": call(321, 0, 0, 0), "perf": call(298, 0, 0, -1, -1, 0), "userfaultfd": call(323, 0),
    "io_uring": call(425, 1, 0), "memfd_secret": call(447, 0), "open_by_handle_at": call(304, 0, 0, 0),
    "tiocsti": call(16, 0, 0x5412, b"x"), "tiocsti high": call(16, 0, ctypes.c_ulong(0x100005412), b"x"),
    "packet socket": opened(lambda: socket.socket(17, 3)), "vsock": opened(lambda: socket.socket(40, 1)),
    "netlink audit": opened(lambda: socket.socket(16, 3, 9)), "netlink route": opened(lambda: socket.socket(16, 3, 0)),
    "unix": opened(lambda: socket.socket(1)), "inet": opened(lambda: socket.socket(2)),
    "setuid root": opened(lambda: os.setuid(0)), "sethostname": call(170, b"x", 1), "reboot": call(169, 0, 0, 0, 0),
}))
"""

DENIED = {
    "EPERM": (
        "unshare user",
        "unshare net",
        "setns",
        "clone user",
        "mount",
        "umount",
        "pivot_root",
        "chroot",
        "fsopen",
        "open_tree",
        "ptrace",
        "process_vm_readv",
        "pidfd_getfd",
        "kcmp",
        "keyctl",
        "add_key",
        "bpf",
        "perf",
        "userfaultfd",
        "memfd_secret",
        "open_by_handle_at",
        "tiocsti",
        "tiocsti high",
        "sethostname",
        "reboot",
    ),
    "ENOSYS": ("clone3", "io_uring"),
    "EINVAL": ("setuid root",),
    "EAFNOSUPPORT": ("packet socket", "vsock", "netlink audit", "netlink route"),
    "done": ("unix", "inet"),
}


async def test_system_calls_that_lead_out_are_denied() -> None:
    async with stages({**scripts(calls="exec python3 calls.py"), "calls.py": CALLS}) as running:
        report = await running.run("calls")
    assert report.stderr == b""
    answers = json.loads(report.stdout)
    expected = {name: answer for answer, names in DENIED.items() for name in names}
    assert {name: got for name, got in answers.items() if got != expected[name]} == {}
    assert set(answers) == set(expected)


OTHER_CONVENTIONS = r"""
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
int main(int argc, char **argv) {
#ifdef __x86_64__
  long number = atol(argv[1]), result;
  if (number == 20) __asm__ volatile("int $0x80" : "=a"(result) : "a"(20) : "memory");  /* getpid of 32 bits */
  else result = syscall(number | 0x40000000);                                           /* getpid of x32 */
  printf("%ld\n", result);
#endif
  return 0;
}
"""


async def test_calls_by_another_convention_are_not_made() -> None:
    files = {**scripts(call='exec ./a "$1"'), "cutor-compile.sh": "gcc -o a a.c", "a.c": OTHER_CONVENTIONS}
    async with stages(files) as running:
        assert (await running.session.run_compile(LIMIT)).exit_code == 0
        reports = [await running.run("call", number) for number in ("20", "39")]
    for report in reports:
        assert report.signal_number == signal.SIGSYS or report.stdout in (b"", b"-1\n"), report


async def test_there_is_no_network_but_a_loopback_of_its_own() -> None:
    script = """exec python3 -c "
import socket
print([line.split(':')[0].strip() for line in open('/proc/net/dev') if ':' in line])
for address in ('1.1.1.1', '169.254.169.254', '172.17.0.1'):
    try: socket.create_connection((address, 80), 1); print('connected')
    except OSError as error: print(error.strerror)
server = socket.create_server(('127.0.0.1', 0)); socket.create_connection(server.getsockname()); print('loopback')
" """
    async with stages(scripts(net=script)) as running:
        report = await running.run("net")
    assert report.stdout.decode().splitlines() == ["['lo']", *["Network is unreachable"] * 3, "loopback"]


async def test_the_root_holds_nothing_of_the_host_or_the_image() -> None:
    script = (
        "ls -A / /usr /usr/bin /bin /etc /dev; id -u; id -g; id -un; hostname 2>/dev/null; ls -A /nix; cat /etc/shadow /root/x"
    )
    async with stages(scripts(look=script)) as running:
        report = await running.run("look")
    assert report.stdout.decode().split("\n\n") == [
        "/:\nbin\nbox\ndev\netc\nnix\nproc\ntmp\nusr",
        "/bin:\nsh",
        "/dev:\nfd\nfull\nnull\nrandom\nshm\nstderr\nstdin\nstdout\nurandom\nzero",
        "/etc:\ngroup\nhosts\npasswd",
        "/usr:\nbin",
        "/usr/bin:\nenv\n1000\n1000\ncutor\nstore\n",
    ]
    assert report.stderr.count(b"No such file or directory") == 2


async def test_the_store_can_be_used_but_not_listed_or_changed() -> None:
    script = """
ls /nix/store; echo "list $?"
ls $(dirname $(dirname $(command -v python3))) > /dev/null; echo "known $?"
touch /nix/store/x; echo "write $?"
chmod 755 /nix/store; echo "chmod $?"
rm -f "$(command -v python3)"; echo "remove $?"
ls /nix/store/.links; echo "links $?"
"""
    async with stages(scripts(store=script)) as running:
        report = await running.run("store")
    assert report.stdout.decode().splitlines() == ["list 2", "known 0", "write 1", "chmod 1", "remove 1", "links 2"]
    assert report.stderr.count(b"Permission denied") == 2


async def test_process_1_and_the_outside_are_out_of_reach() -> None:
    script = """
cd /proc; echo [0-9]*
for file in environ maps mem; do cat /proc/1/$file > /dev/null 2>&1; echo "$file $?"; done
ls /proc/1/fd > /dev/null 2>&1; echo "fd $?"; ls /proc/1/root/ > /dev/null 2>&1; echo "root $?"
echo x > /proc/sys/kernel/core_pattern; echo "core_pattern $?"; echo x > /proc/sysrq-trigger; echo "sysrq $?"
cat /proc/kcore > /dev/null; echo "kcore $?"; echo 0 > /proc/self/oom_score_adj; echo "oom $?"; cat /proc/self/oom_score_adj
ls /sys; echo "sys $?"
"""
    async with stages(scripts(proc=script)) as running:
        report = await running.run("proc")
    lines = report.stdout.decode().splitlines()
    assert lines[0] == "1 2"
    assert lines[1:6] == ["environ 1", "maps 1", "mem 1", "fd 2", "root 2"]
    assert lines[6:] == ["core_pattern 1", "sysrq 1", "kcore 1", "oom 1", "1000", "sys 2"]


async def test_variables_are_exactly_those_handed_over() -> None:
    async with stages(scripts(env="exec env -0", exe="readlink /proc/$$/exe; echo $0")) as running:
        shown = await running.run("env")
        exe = await running.run("exe")
    names = {entry.partition(b"=")[0] for entry in shown.stdout.split(b"\0") if entry}
    assert names == {b"HOME", b"PATH", b"PWD", b"SHLVL"}  # the last two are bash's own
    assert exe.stdout.decode().splitlines()[0].startswith("/nix/store/")


async def test_gcc_python_and_threads_run_under_the_policies() -> None:
    files = {
        **scripts(go="./a && exec python3 -c 'import threading, subprocess, multiprocessing.pool; print(\"py\")'"),
        "cutor-compile.sh": "gcc -O2 -o a a.c",
        "a.c": '#include <stdio.h>\nint main(void) { puts("c"); return 0; }\n',
    }
    async with stages(files) as running:
        compiled = await running.session.run_compile(LIMIT)
        report = await running.run("go")
    assert (compiled.exit_code, compiled.stderr) == (0, b"")
    assert (report.stdout, report.exit_code) == (b"c\npy\n", 0)


async def test_two_that_run_beside_each_other_share_no_lock_socket_or_queue() -> None:
    hold = """exec python3 -c "
import ctypes, fcntl, shutil, socket, sys, time
program = open(shutil.which('bash')); fcntl.flock(program, fcntl.LOCK_EX | fcntl.LOCK_NB)
beside = socket.socket(1); beside.bind('\\0cutor-beside'); server = socket.create_server(('127.0.0.1', 4242))
libc = ctypes.CDLL(None); print(libc.msgget(77, 0), libc.msgget(77, 0o1600) >= 0, flush=True); time.sleep(1)
" """
    async with stages(scripts(hold=hold)) as one, stages(scripts(hold=hold)) as other:
        reports = await asyncio.gather(one.run("hold"), other.run("hold"))
    assert [(report.stdout, report.stderr) for report in reports] == [(b"-1 True\n", b"")] * 2
