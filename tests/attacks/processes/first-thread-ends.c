//: what = "the first thread ends long before the last one, which decides"
//: outcome = ["RUN_ERROR"]
//: run = ["RE"]
//: exit_code = 5
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

static void *last(void *unused)
{
    usleep(300000);
    _exit(5);
    return unused;
}

int main(void)
{
    pthread_t thread;
    pthread_create(&thread, 0, last, 0);
    syscall(SYS_exit, 0); /* of this thread alone: the process looks like a zombie from now on */
}
