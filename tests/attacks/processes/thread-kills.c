//: what = "SIGKILL of the whole program by one of its threads"
//: outcome = ["RUN_ERROR"]
//: run = ["SG"]
//: signal = 9
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

static void *kill_all(void *unused)
{
    usleep(100000);
    kill(getpid(), SIGKILL);
    return unused;
}

int main(void)
{
    pthread_t thread;
    pthread_create(&thread, 0, kill_all, 0);
    for (;;)
        pause();
}
