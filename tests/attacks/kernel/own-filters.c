//: what = "filters of system calls of the program's own take the room in which every jail's policy must find its own: refused"
//: has = ["prctl: Invalid argument", "prctl, high bits: Invalid argument", "seccomp: Function not implemented"]
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <string.h>
#include <errno.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(void)
{
    struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program = {1, &allow};
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    printf("prctl: %s\n", prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) ? strerror(errno) : "a filter");
    printf("prctl, high bits: %s\n",
           syscall(SYS_prctl, 0x100000000UL + PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) ? strerror(errno) : "a filter");
    printf("seccomp: %s\n", syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) ? strerror(errno) : "a filter");
    return 0;
}
