//: what = "CPU time of threads whose process looks like a zombie"
//: outcome = ["RUN_ERROR"]
//: run = ["TLE_CPU"]
//: limits.run.cpu_time_ms = 500
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

static void *burn(void *unused)
{
    for (;;)
        ;
    return unused;
}

int main(void)
{
    pthread_t thread;
    pthread_create(&thread, 0, burn, 0);
    syscall(SYS_exit, 0);
}
