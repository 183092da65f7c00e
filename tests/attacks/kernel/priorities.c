//: what = "a better priority than others, real time, locked memory without end, and limits for process 1"
//: has = ["refused"]
//: lacks = ["REACHED"]
#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

int main(void)
{
    struct sched_param first = {99};
    if (sched_setscheduler(0, SCHED_FIFO, &first) == 0 || sched_setscheduler(0, SCHED_RR, &first) == 0)
        puts("REACHED real time");
    if (setpriority(PRIO_PROCESS, 0, -20) == 0 || setpriority(PRIO_PROCESS, 0, 0) == 0)
        puts("REACHED priority");
    struct rlimit more = {RLIM_INFINITY, RLIM_INFINITY};
    int limits[] = {RLIMIT_NOFILE, RLIMIT_NPROC, RLIMIT_FSIZE, RLIMIT_CORE};
    for (int n = 0; n < 4; n++)
        if (setrlimit(limits[n], &more) == 0)
            puts("REACHED limits");
    struct rlimit second = {1, 1}; /* process 1 is of this user, and would be killed after that */
    if (prlimit(1, RLIMIT_CPU, &second, NULL) == 0)
        puts("REACHED the limits of process 1");
    puts("refused");
    return 0;
}
