//: what = "memory by page tables alone: terabytes are mapped, and nothing is written"
//: outcome = ["RUN_ERROR"]
//: run = ["MLE"]
//: limits.run.memory_bytes = 67108864
#include <sys/mman.h>

int main(void)
{
    long sum = 0;
    for (;;) {
        volatile char *place = mmap(0, 1L << 40, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (place == MAP_FAILED)
            return 1;
        for (long at = 0; at < 1L << 40; at += 1L << 21)
            sum += place[at];
    }
}
