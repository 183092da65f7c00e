//: what = "a child of vfork that stops itself: its parent waits where no signal but SIGKILL reaches it"
//: outcome = ["RUN_ERROR"]
//: run = ["TLE_WALL"]
//: limits.run.wall_time_ms = 700
#define _GNU_SOURCE
#include <signal.h>
#include <unistd.h>

int main(void)
{
    if (vfork() == 0)
        for (;;)
            kill(getpid(), SIGSTOP);
    return 0;
}
