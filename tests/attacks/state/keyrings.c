//: what = "keys left in a keyring are seen by none that runs later: there are no keyrings"
//: test_cases = [{}, {}]
//: has = ["refused"]
//: lacks = ["REACHED"]
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(void)
{
    for (int ring = -1; ring >= -5; ring--) {
        if (syscall(SYS_add_key, "user", "left", "behind", 6L, ring) >= 0)
            puts("REACHED add_key");
        if (syscall(SYS_keyctl, 0, ring, 1) >= 0)
            puts("REACHED keyctl");
    }
    if (syscall(SYS_request_key, "user", "left", NULL, -3) >= 0)
        puts("REACHED request_key");
    puts("refused");
    return 0;
}
