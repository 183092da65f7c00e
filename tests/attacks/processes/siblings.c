//: what = "children that are given to process 1 at once, and end with codes and signals of their own: none is the program's"
//: has = ["the program"]
#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(void)
{
    for (int n = 0; n < 1000; n++) {
        long child = syscall(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0);
        if (child == 0 && n % 2)
            kill(getpid(), SIGSEGV);
        if (child == 0)
            _exit(139);
        if (child < 0)
            usleep(100);
    }
    usleep(200000);
    puts("the program");
    return 0;
}
