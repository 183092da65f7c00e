//: what = "a program that limits its own CPU time: the signal is its own doing, not cutor's limit"
//: outcome = ["RUN_ERROR"]
//: run = ["SG"]
//: signal = 24
#include <sys/resource.h>

int main(void)
{
    struct rlimit own = {1, 100};
    setrlimit(RLIMIT_CPU, &own);
    for (;;)
        ;
}
