//: what = "single bytes, hundreds of thousands of them, with little memory: each is kept, none costs more than its share"
//: printed_at_least = 200000
//: [limits.run]
//: memory_bytes = 16777216
//: cpu_time_ms = 10000
#include <unistd.h>

int main(void)
{
    for (int n = 0; n < 200000; n++)
        if (write(1, &"abcdefgh"[n % 8], 1) != 1)
            return 1;
    return 0;
}
