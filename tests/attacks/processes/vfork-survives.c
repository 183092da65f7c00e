//: what = "a child of vfork that kills its parent, whose memory it shares, and goes on"
//: outcome = ["RUN_ERROR"]
//: run = ["SG"]
//: signal = 9
#define _GNU_SOURCE
#include <signal.h>
#include <unistd.h>

int main(void)
{
    if (vfork() == 0) {
        setsid();
        kill(getppid(), SIGKILL);
        for (;;)
            ;
    }
    return 0;
}
