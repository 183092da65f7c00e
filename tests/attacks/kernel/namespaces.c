//: what = "new namespaces: by unshare, clone and clone3, and entering others"
//: has = ["refused"]
//: lacks = ["REACHED"]
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static const int kinds[] = {CLONE_NEWUSER, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWNET, CLONE_NEWIPC, CLONE_NEWUTS, CLONE_NEWCGROUP};

int main(void)
{
    for (unsigned n = 0; n < sizeof kinds / sizeof *kinds; n++) {
        unsigned long long arguments[11] = {(unsigned)kinds[n], 0, 0, 0, 17};
        long child;
        if (unshare(kinds[n]) == 0 || unshare(kinds[n] | CLONE_NEWUSER) == 0)
            puts("REACHED unshare");
        if ((child = syscall(SYS_clone, (long)(kinds[n] | CLONE_NEWUSER | 17), 0, 0, 0, 0)) == 0)
            _exit(0);
        if (child > 0)
            puts("REACHED clone");
        if ((child = syscall(SYS_clone3, arguments, sizeof arguments)) == 0)
            _exit(0);
        if (child > 0)
            puts("REACHED clone3");
    }
    for (int pid = 1; pid < 4; pid++)
        if (setns((int)syscall(SYS_pidfd_open, pid, 0), CLONE_NEWUSER | CLONE_NEWNS) == 0)
            puts("REACHED setns");
    puts("refused");
    return 0;
}
