//: what = "every system call that only a host needs, with and without something to point at, and all that are newer"
//: has = ["refused"]
//: lacks = ["REACHED"]
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#define CALL(name) {SYS_##name, #name}
static const struct {
    long number;
    const char *name;
} calls[] = {
    CALL(ptrace), CALL(process_vm_readv), CALL(process_vm_writev), CALL(process_madvise), CALL(kcmp), CALL(bpf),
    CALL(perf_event_open), CALL(userfaultfd), CALL(add_key), CALL(request_key), CALL(keyctl), CALL(open_by_handle_at),
    CALL(name_to_handle_at), CALL(setns), CALL(open_tree), CALL(move_mount), CALL(fsopen), CALL(fsconfig), CALL(fsmount),
    CALL(fspick), CALL(init_module), CALL(finit_module), CALL(delete_module), CALL(kexec_load), CALL(kexec_file_load),
    CALL(reboot), CALL(swapon), CALL(swapoff), CALL(acct), CALL(quotactl), CALL(settimeofday), CALL(clock_settime),
    CALL(clock_adjtime), CALL(adjtimex), CALL(syslog), CALL(vhangup), CALL(iopl), CALL(ioperm), CALL(modify_ldt),
    CALL(fanotify_init), CALL(fanotify_mark), CALL(mbind), CALL(set_mempolicy), CALL(migrate_pages), CALL(move_pages),
    CALL(vmsplice), CALL(lookup_dcookie), CALL(ustat), CALL(sysfs), CALL(uselib), CALL(remap_file_pages), CALL(mount),
    CALL(umount2), CALL(pivot_root), CALL(chroot), CALL(unshare), CALL(sethostname), CALL(setdomainname),
    CALL(io_uring_setup), CALL(io_uring_enter), CALL(io_uring_register), CALL(io_setup), CALL(io_submit), CALL(clone3),
};
enum { PIDFD_GETFD = 438, MEMFD_SECRET = 447, NEWER_THAN_THE_TABLE = 470, NO_KERNEL_HAS = 1200 };

static void try(long number, const char *name, long argument)
{
    errno = 0;
    long got = syscall(number, argument, argument, argument, argument, argument, argument);
    if (got != -1 || (errno != EPERM && errno != ENOSYS))
        printf("REACHED %s %ld: %ld, errno %d\n", name, number, got, errno);
}

int main(void)
{
    static long nothing[64];
    for (unsigned n = 0; n < sizeof calls / sizeof *calls; n++) {
        try(calls[n].number, calls[n].name, 0);
        try(calls[n].number, calls[n].name, (long)nothing);
    }
    try(PIDFD_GETFD, "pidfd_getfd", 0);
    try(MEMFD_SECRET, "memfd_secret", 0);
    for (long number = NEWER_THAN_THE_TABLE; number < NO_KERNEL_HAS; number++)
        try(number, "unknown", -1);
    puts("refused");
    return 0;
}
