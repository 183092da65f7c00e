//: what = "system calls by the 32-bit and x32 conventions, past a filter that looks at one only"
//: has = ["refused"]
//: lacks = ["REACHED"]
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static long old_call(long number, long first)
{
    long result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(first) : "memory");
    return result;
}

static void attempt(int which)
{
    if (fork() == 0) {
        /* 310 is unshare(2) of 32 bits; 272 that of x32 */
        if (which == 0 && old_call(310, 0x10000000) == 0)
            puts("REACHED unshare of 32 bits");
        if (which == 1 && syscall(0x40000000 | 272, 0x10000000) == 0)
            puts("REACHED unshare of x32");
        if (which == 2 && old_call(26, 0) == 0)
            puts("REACHED ptrace of 32 bits");
        exit(0);
    }
    wait(NULL);
}

int main(void)
{
    for (int which = 0; which < 3; which++)
        attempt(which);
    puts("refused");
    return 0;
}
