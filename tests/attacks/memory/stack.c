//: what = "memory by recursion without end: MLE, and the init lives to report it"
//: outcome = ["RUN_ERROR"]
//: run = ["MLE"]
//: [limits.run]
//: memory_bytes = 67108864
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static int deeper(int depth)
{
    volatile char room[65536];
    memset((char *)room, depth, sizeof room);
    return deeper(depth + 1) + room[depth % 7];
}

int main(int count, char **words)
{
    (void)words;
    struct rlimit all = {RLIM_INFINITY, RLIM_INFINITY};
    setrlimit(RLIMIT_STACK, &all);
    char *self[] = {"attack", "deep", NULL};
    if (count == 1)
        return execv("/proc/self/exe", self);
    return deeper(0);
}
