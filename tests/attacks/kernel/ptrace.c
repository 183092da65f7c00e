//: what = "ptrace, and reading or writing another process's memory"
//: has = ["refused"]
//: lacks = ["REACHED"]
#define _GNU_SOURCE
#include <stdio.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

int main(void)
{
    char room[8] = "x";
    struct iovec mine = {room, 8}, theirs = {room, 8};
    pid_t others[] = {1, getppid(), getpid()};
    for (int n = 0; n < 3; n++) {
        if (ptrace(PTRACE_ATTACH, others[n], 0, 0) >= 0 || ptrace(PTRACE_SEIZE, others[n], 0, 0) >= 0)
            puts("REACHED ptrace");
        if (syscall(SYS_process_vm_readv, others[n], &mine, 1L, &theirs, 1L, 0L) >= 0)
            puts("REACHED process_vm_readv");
        if (syscall(SYS_process_vm_writev, others[n], &mine, 1L, &theirs, 1L, 0L) >= 0)
            puts("REACHED process_vm_writev");
    }
    if (ptrace(PTRACE_TRACEME, 0, 0, 0) >= 0)
        puts("REACHED traceme");
    puts("refused");
    return 0;
}
