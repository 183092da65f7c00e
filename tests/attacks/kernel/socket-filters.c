//: what = "socket filters: compiled, they take the room that the policies of all jails need"
//: has = ["refused"]
//: lacks = ["REACHED"]
#include <linux/filter.h>
#include <stdio.h>
#include <sys/socket.h>

int main(void)
{
    static const int options[] = {SO_ATTACH_FILTER, SO_ATTACH_BPF, SO_ATTACH_REUSEPORT_CBPF, SO_ATTACH_REUSEPORT_EBPF};
    struct sock_filter code = {BPF_RET | BPF_K, 0, 0, 0};
    struct sock_fprog filter = {1, &code};
    int one = 1, made = socket(AF_UNIX, SOCK_DGRAM, 0);
    for (int n = 0; n < 4; n++)
        if (setsockopt(made, SOL_SOCKET, options[n], &filter, sizeof filter) == 0)
            printf("REACHED %d\n", options[n]);
    if (setsockopt(made, SOL_SOCKET, SO_PASSCRED, &one, sizeof one) == 0)
        puts("refused");
    return 0;
}
