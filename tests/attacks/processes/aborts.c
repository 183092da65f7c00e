//: what = "a program that aborts after it asked for a core dump: its signal, and no dump"
//: outcome = ["RUN_ERROR"]
//: run = ["SG"]
//: signal = 6
//: lacks = ["REACHED"]
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

int main(void)
{
    struct rlimit wanted = {1 << 30, 1 << 30};
    if (setrlimit(RLIMIT_CORE, &wanted) == 0)
        puts("REACHED");
    fflush(stdout);
    abort();
}
