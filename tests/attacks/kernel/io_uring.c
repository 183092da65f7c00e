//: what = "io_uring and kernel asynchronous I/O"
//: has = ["refused"]
//: lacks = ["REACHED"]
#define _GNU_SOURCE
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(void)
{
    char parameters[256] = {0};
    unsigned long context = 0;
    if (syscall(SYS_io_uring_setup, 4, parameters) >= 0)
        puts("REACHED io_uring");
    if (syscall(SYS_io_setup, 4, &context) >= 0)
        puts("REACHED io_setup");
    puts("refused");
    return 0;
}
