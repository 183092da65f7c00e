//: what = "memory by the heap: MLE, and the init lives to report it"
//: outcome = ["RUN_ERROR"]
//: run = ["MLE"]
//: [limits.run]
//: memory_bytes = 67108864
#include <stdlib.h>
#include <string.h>

int main(void)
{
    for (;;) {
        char *block = malloc(1 << 20);
        if (block == NULL)
            return 0;
        memset(block, 1, 1 << 20);
    }
}
