"""System calls: one table by purpose, and the two policies made from it.

`container_profile` is what a child container may call at all (Docker's JSON form); everything that the table does not name is
refused there. `program_policy` is nsjail's policy for the user's program: it takes away again what only the making of a jail
needs. Both filters hold at once for a jailed program, and the stricter of the two answers.
"""

from __future__ import annotations

import json
from typing import Any, Final

ALLOWED: Final[dict[str, str]] = {
    "read and write": """
        read write readv writev pread64 pwrite64 preadv pwritev preadv2 pwritev2 lseek sendfile copy_file_range splice tee
        readahead fadvise64 sync fsync fdatasync sync_file_range syncfs truncate ftruncate fallocate""",
    "descriptors": """
        open openat openat2 creat close close_range dup dup2 dup3 flock pipe pipe2 memfd_create""",
    "names and attributes of files": """
        stat fstat lstat newfstatat statx access faccessat faccessat2 readlink readlinkat getcwd chdir fchdir getdents
        getdents64 mkdir mkdirat rmdir rename renameat renameat2 link linkat symlink symlinkat unlink unlinkat mknod mknodat
        chmod fchmod fchmodat fchmodat2 chown fchown lchown fchownat umask utime utimes futimesat utimensat statfs fstatfs
        getxattr lgetxattr fgetxattr listxattr llistxattr flistxattr setxattr lsetxattr fsetxattr
        removexattr lremovexattr fremovexattr inotify_init inotify_init1 inotify_add_watch inotify_rm_watch""",
    "memory": """
        mmap munmap mremap mprotect brk madvise msync mincore mlock mlock2 munlock mlockall munlockall membarrier
        pkey_alloc pkey_free pkey_mprotect get_mempolicy map_shadow_stack mseal""",
    "waiting for events": """
        poll ppoll select pselect6 epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2
        eventfd eventfd2 signalfd signalfd4 timerfd_create timerfd_settime timerfd_gettime""",
    "sockets once made (see SOCKETS for which may be made)": """
        bind listen accept accept4 connect shutdown getsockname getpeername getsockopt setsockopt
        sendto recvfrom sendmsg recvmsg sendmmsg recvmmsg""",
    "processes and threads": """
        clone clone3 fork vfork execve execveat exit exit_group wait4 waitid kill tkill tgkill pidfd_open pidfd_send_signal
        getpid getppid gettid getpgid setpgid getpgrp getsid setsid set_tid_address set_robust_list get_robust_list rseq
        futex futex_waitv futex_wake futex_wait futex_requeue arch_prctl prctl getrusage times getcpu restart_syscall
        getrlimit setrlimit prlimit64""",
    "scheduling, of the caller's own processes": """
        sched_yield sched_getaffinity sched_setaffinity sched_getparam sched_setparam sched_getscheduler sched_setscheduler
        sched_get_priority_max sched_get_priority_min sched_rr_get_interval sched_getattr sched_setattr
        getpriority setpriority ioprio_get ioprio_set""",
    "signals": """
        rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending rt_sigsuspend rt_sigtimedwait rt_sigqueueinfo
        rt_tgsigqueueinfo sigaltstack pause alarm getitimer setitimer""",
    "time, reading it and waiting": """
        clock_gettime clock_getres clock_nanosleep nanosleep gettimeofday time
        timer_create timer_settime timer_gettime timer_getoverrun timer_delete""",
    "identity; the kernel refuses what the caller's capabilities do not cover": """
        getuid geteuid getgid getegid getresuid getresgid getgroups setuid setgid setreuid setregid setresuid setresgid
        setgroups setfsuid setfsgid capget capset uname sysinfo getrandom""",
    "System V and POSIX message passing, private to each jail's own namespace": """
        shmget shmat shmdt shmctl semget semop semtimedop semctl msgget msgsnd msgrcv msgctl
        mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify mq_getsetattr""",
    "a process that restricts itself further": """
        seccomp landlock_create_ruleset landlock_add_rule landlock_restrict_self""",
}
"""What every process of a child container may call."""

JAIL: Final = "mount umount2 pivot_root chroot unshare sethostname setdomainname"
"""What making a jail needs, always in a user namespace of its own: allowed in the container, denied to the user's program."""

DENIED: Final[dict[str, str]] = {
    "another process's memory, registers or descriptors": """
        ptrace process_vm_readv process_vm_writev process_madvise process_mrelease pidfd_getfd kcmp""",
    "programs for the kernel, and counters that watch it": "bpf perf_event_open",
    "page faults handled in user space: makes races in the kernel easy to win": "userfaultfd",
    "keyrings, which no namespace separates": "add_key request_key keyctl",
    "files by handle, beneath every mount": "open_by_handle_at name_to_handle_at",
    "other namespaces and the new mount calls, which nsjail does not use": """
        setns open_tree open_tree_attr move_mount mount_setattr fsopen fsconfig fsmount fspick statmount listmount""",
    "memory that is hidden from the kernel's own accounting tools": "memfd_secret",
    "modules, reboot, clocks, swap, quotas, the kernel's log": """
        init_module finit_module delete_module kexec_load kexec_file_load reboot swapon swapoff acct quotactl quotactl_fd
        settimeofday clock_settime clock_adjtime adjtimex syslog vhangup""",
    "direct access to hardware and segments": "iopl ioperm modify_ldt",
    "watching whole file systems": "fanotify_init fanotify_mark",
    "moving pages between memory nodes, for others too": """
        mbind set_mempolicy set_mempolicy_home_node migrate_pages move_pages""",
    "rarely used, often broken": "vmsplice lookup_dcookie ustat sysfs uselib remap_file_pages",
}
"""Refused with EPERM, each group for its reason, by name in the program's policy.

A container's profile refuses in the same way whatever it does not name, so these are not in it: each name costs a container CPU
time, in all that reads, writes and compiles the profile (decision 0059).
"""

ABSENT: Final = """io_uring_setup io_uring_enter io_uring_register
    io_setup io_submit io_cancel io_getevents io_pgetevents io_destroy cachestat lsm_get_self_attr lsm_set_self_attr
    lsm_list_modules setxattrat getxattrat listxattrat removexattrat file_getattr file_setattr"""
"""Answered with ENOSYS: callers have another way and take it (io_uring is a second, unfiltered way to make system calls)."""

ATTRIBUTES: Final = "setxattr lsetxattr fsetxattr"
"""Answered with EOPNOTSUPP to the user's program, as on a file system that has none: callers go on without.

The kernel charges an access list (``system.posix_acl_default``, 64 KiB, inherited by every new directory) to no control group:
a program with 64 MiB held a gigabyte more in a second. A filter can't see an attribute's name, so none is set."""

DONE_ALREADY: Final = "sync"
"""Answered with success to the user's program, and not done: all that a jail can write is memory.

Done, it would write the disks of the whole host, in a call that can't be killed."""

SOCKET_FILTERS: Final = (26, 50, 51, 52)
"""``SO_ATTACH_FILTER``, ``_BPF``, ``_REUSEPORT_CBPF`` and ``_EBPF``: refused with EPERM to the user's program.

Compiled filters share one room of the whole kernel, in which the system call policy of the next jail must find its own."""

FILTER_OPTION: Final = 22
"""``PR_SET_SECCOMP``: refused with EINVAL to the user's program, and ``seccomp`` with ENOSYS, as by a kernel without filters.

Compiled, a program's own filters take the same room: 125 MiB of it, with 512 processes."""

HUGE_PAGES: Final = {"mmap": ("flags", 0x4_0000), "shmget": ("shmflg", 0x800), "memfd_create": ("flags", 0x4)}
"""``MAP_HUGETLB`` and its like: refused with ENOMEM to the user's program, as where the machine keeps none.

Where it keeps some, they are memory that the memory limit does not count."""

OPEN_FILE_LOCKS: Final = 0x24
"""``F_OFD_GETLK``, ``_SETLK`` and ``_SETLKW`` of fcntl are this and the next two: refused in every container (`FCNTL_BLOCKS`).

``/proc/locks`` lists such a lock to every process of the host, whatever its namespaces: its range is a message to anybody.
The jail's policy answers as a kernel that does not know them (EINVAL); locks of processes and flock are as they were."""

WRITE_HINTS: Final = (0x40C, 0x40E)
"""``F_SET_RW_HINT`` and ``F_SET_FILE_RW_HINT`` of fcntl: refused with EINVAL to the user's program, as by a kernel before 4.13.

The hint stays with a file, also with one that may only be read: on ``/etc/passwd`` and the like a submission could leave a word
for the next one in its container, and before Linux 6.13 on any file of the store."""

FCNTL_BLOCKS: Final = ((0, 32), (32, 4), (1024, 1024))
"""Commands of fcntl that a container may give, each block by its first and its size, a power of two: those that are there below
`OPEN_FILE_LOCKS`, and Linux's own, which begin with 1024. There are no others (6.18).
"""

IOCTL_BITS: Final = (*range(16), 29, 30, 31)
"""Bits that tell requests of ioctl apart: number, type and direction; what has a size has a direction, too."""

LIMITS_OF: Final = 1
"""Whose limits the user's program does not set: those of process 1 of its jail, which is of the same user (EPERM).

With a limit of CPU time of one second the kernel kills jail-init once it has reaped some 165,000 orphans, and cutor would
be told of a fault of its own, which is tried again, in place of the program's end."""

EPERM: Final = 1
"""Error number of Linux: operation not permitted."""
EINVAL: Final = 22
"""Error number of Linux: invalid argument."""
ENOMEM: Final = 12
"""Error number of Linux: out of memory."""
ENOSYS: Final = 38
"""Error number of Linux: no such system call."""
EOPNOTSUPP: Final = 95
"""Error number of Linux: operation not supported."""
EAFNOSUPPORT: Final = 97
"""Error number of Linux: address family not supported."""
_SOL_SOCKET: Final = 1
"""The level of options of sockets themselves, in setsockopt(2)."""
_LOW_32: Final = 0xFFFF_FFFF
"""The lower half of an argument: the kernel reads no more of an ``int``."""
_AF_UNIX, _AF_INET, _AF_INET6, _AF_NETLINK = 1, 2, 10, 16
_NETLINK_ROUTE, _NETLINK_NETFILTER = 0, 12
SOCKETS: Final = (_AF_UNIX, _AF_INET, _AF_INET6)
"""The families of sockets that the user's program may make; it knows no other (EAFNOSUPPORT).

Not AF_NETLINK, whose answers the kernel charges to no control group: 190 sockets that nobody read from held 776 MB. C libraries
resolve names without it; what is lost is a list of the interfaces, of which a jail has one."""
_TIOCSTI: Final = 0x5412  # types into a terminal as if its owner did
_NAMESPACE_FLAGS: Final = 0x7E02_0000  # CLONE_NEWNS, -CGROUP, -UTS, -IPC, -USER, -PID, -NET; clone(2) has no -TIME
_PERSONALITIES: Final = (0, 0x0004_0000, 0xFFFF_FFFF)  # Linux, Linux without address randomisation, the question


def names(table: dict[str, str]) -> list[str]:
    """Return every name of a table, sorted."""
    return sorted({name for group in table.values() for name in group.split()})


def container_profile(*, packet_filter: bool = False) -> str:
    """Return the seccomp profile of a child container as Docker's JSON text (about 7 KB).

    ``packet_filter``: its first process may talk to the kernel's, too, which asks it for NET_ADMIN.

    It names no architecture: then it holds for the engine's own, and a call by any other convention (x32, 32 bits) is killed.

    Jail calls are in it; so it is for containers in which nothing is root of the host's user namespace but a tiny parent.
    """
    allowed = sorted(set(names(ALLOWED)) | set(JAIL.split()))
    rules: list[dict[str, Any]] = [
        {"names": allowed, "action": "SCMP_ACT_ALLOW"},
        {"names": sorted(ABSENT.split()), "action": "SCMP_ACT_ERRNO", "errnoRet": ENOSYS},
        *(_allow("socket", (0, family)) for family in SOCKETS),
        _allow("socket", (0, _AF_NETLINK), (2, _NETLINK_ROUTE)),  # by which nsjail brings up a jail's loopback
        *([_allow("socket", (0, _AF_NETLINK), (2, _NETLINK_NETFILTER))] if packet_filter else []),
        _allow("socketpair", (0, _AF_UNIX)),
        *(_allow("personality", (0, value)) for value in _PERSONALITIES),
        *(_allow_masked("ioctl", 1 << bit, ~_TIOCSTI & (1 << bit)) for bit in IOCTL_BITS),
        *(_allow_masked("fcntl", _LOW_32 & -size, first) for first, size in FCNTL_BLOCKS),
    ]
    return json.dumps({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules}, separators=(",", ":"))


def _allow(name: str, *equal: tuple[int, int]) -> dict[str, Any]:
    args = [{"index": index, "value": value, "op": "SCMP_CMP_EQ"} for index, value in equal]
    return {"names": [name], "action": "SCMP_ACT_ALLOW", "args": args}


def _allow_masked(name: str, mask: int, value: int) -> dict[str, Any]:
    """Allow a call whose second argument has this value under a mask of its low 32 bits.

    The kernel looks at those alone of what ioctl and fcntl are asked for, while other comparisons see 64: setting a high bit
    would walk past them.
    """
    args = [{"index": 1, "value": mask, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ"}]
    return {"names": [name], "action": "SCMP_ACT_ALLOW", "args": args}


def program_policy() -> str:
    """Return nsjail's policy (kafel) for a user's program: a few KB, the same on every architecture that nsjail knows.

    Everything that makes or enters a namespace is refused, ``clone3`` with ENOSYS because a filter can't see its flags:
    every C library then falls back to ``clone``. What takes memory that no limit counts is refused: see `ATTRIBUTES`,
    `SOCKET_FILTERS`, `SOCKETS`; `DONE_ALREADY` is not done. The rest repeats the container's denials, so that either filter
    suffices.
    """
    denied = sorted(set(names(DENIED)) | set(JAIL.split()))
    # kafel keeps the kernel's own name for umount2(2)
    listed = ", ".join("umount" if name == "umount2" else name for name in denied)
    absent = ", ".join(sorted({"clone3", "seccomp", *ABSENT.split()}))
    families = " || ".join(f"family == {family}" for family in SOCKETS)
    filters = " || ".join(f"(optname & 0xffffffff) == {option}" for option in SOCKET_FILTERS)
    commands = " || ".join(f"(cmd & 0xffffffff) == {command:#x}" for command in WRITE_HINTS)
    huge = ", ".join(f"{call} {{ ({argument} & {bit:#x}) != 0 }}" for call, (argument, bit) in HUGE_PAGES.items())
    return (
        f"ERRNO({EPERM}) {{ {listed}, "
        f"clone {{ (clone_flags & {_NAMESPACE_FLAGS:#x}) != 0 }}, "
        f"ioctl {{ (cmd & 0xffffffff) == {_TIOCSTI:#x} }}, "
        f"prlimit64 {{ (pid & 0xffffffff) == {LIMITS_OF} }}, "
        f"setsockopt {{ (level & 0xffffffff) == {_SOL_SOCKET} && ({filters}) }} }} "
        f"ERRNO({EAFNOSUPPORT}) {{ socket {{ !({families}) }} }} "
        f"ERRNO({ENOMEM}) {{ {huge} }} "
        f"ERRNO({EINVAL}) {{ fcntl {{ (cmd & 0xfffffffc) == {OPEN_FILE_LOCKS:#x} || {commands} }}, "
        f"prctl {{ (option & 0xffffffff) == {FILTER_OPTION} }} }} "
        f"ERRNO({ENOSYS}) {{ {absent} }} ERRNO({EOPNOTSUPP}) {{ {', '.join(ATTRIBUTES.split())} }} "
        f"ERRNO(0) {{ {DONE_ALREADY} }} DEFAULT ALLOW"
    )
