//: what = "keyctl, add_key and request_key"
//: has = ["refused"]
//: lacks = ["REACHED"]
#define _GNU_SOURCE
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(void)
{
    for (long operation = 0; operation < 33; operation++)
        if (syscall(SYS_keyctl, operation, -3L, 0L, 0L, 0L) >= 0)
            puts("REACHED keyctl");
    if (syscall(SYS_add_key, "keyring", "mine", NULL, 0L, -4) >= 0)
        puts("REACHED add_key");
    puts("refused");
    return 0;
}
