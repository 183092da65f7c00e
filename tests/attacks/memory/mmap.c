//: what = "memory by shared anonymous mappings: MLE, and the init lives to report it"
//: outcome = ["RUN_ERROR"]
//: run = ["MLE"]
//: [limits.run]
//: memory_bytes = 67108864
#include <string.h>
#include <sys/mman.h>

int main(void)
{
    for (;;) {
        char *block = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (block == MAP_FAILED)
            return 0;
        memset(block, 1, 1 << 20);
    }
}
