//: what = "CPU time in children so short that no clock finds them running"
//: outcome = ["RUN_ERROR"]
//: run = ["TLE_CPU"]
//: limits.run.cpu_time_ms = 700
#include <signal.h>
#include <unistd.h>

int main(void)
{
    signal(SIGCHLD, SIG_IGN);
    for (;;)
        if (fork() == 0)
            _exit(0);
}
