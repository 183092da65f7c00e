//: what = "memory by an array of a gigabyte in BSS"
//: outcome = ["RUN_ERROR"]
//: run = ["MLE"]
//: [limits.run]
//: memory_bytes = 67108864
#include <string.h>

static char room[1 << 30];

int main(void)
{
    memset(room, 1, sizeof room);
    return room[12345] - 1;
}
