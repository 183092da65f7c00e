//: what = "fresh memory holds nothing of another process's"
//: test_cases = [{}, {}]
//: has = ["looked"]
//: lacks = ["FOUND"]
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

int main(void)
{
    size_t size = 64 << 20;
    char *room = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (room == MAP_FAILED)
        return 1;
    for (size_t n = 0; n < size; n += 64)
        if (room[n]) {
            puts("FOUND");
            break;
        }
    memset(room, 7, size);
    puts("looked");
    return 0;
}
