//: what = "descriptors of another process by pidfd_getfd: the channel of process 1"
//: has = ["refused"]
//: lacks = ["REACHED"]
#define _GNU_SOURCE
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(void)
{
    long process = syscall(SYS_pidfd_open, 1, 0);
    for (int n = 0; process >= 0 && n < 64; n++)
        if (syscall(SYS_pidfd_getfd, process, n, 0) >= 0)
            puts("REACHED a descriptor");
    puts("refused");
    return 0;
}
