//: what = "becoming somebody else: uids, gids, groups, capabilities"
//: has = ["refused"]
//: lacks = ["REACHED"]
#define _GNU_SOURCE
#include <grp.h>
#include <linux/capability.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(void)
{
    struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2] = {{0, 0, 0}, {0, 0, 0}};
    static const unsigned ids[] = {0, 1, 999, 1001, 65534, 200000, 300000, 300001};
    for (int n = 0; n < 8; n++) {
        gid_t group = ids[n];
        if (setuid(ids[n]) == 0 || setresuid(ids[n], ids[n], ids[n]) == 0 || setreuid(-1, ids[n]) == 0)
            puts("REACHED uid");
        if (setgid(ids[n]) == 0 || setresgid(ids[n], ids[n], ids[n]) == 0)
            puts("REACHED gid");
        if (setgroups(1, &group) == 0)
            puts("REACHED groups");
    }
    if (syscall(SYS_capget, &head, data) == 0 && (data[0].effective | data[0].permitted | data[1].effective | data[1].permitted))
        puts("REACHED capabilities");
    data[0].effective = data[0].permitted = ~0u;
    if (syscall(SYS_capset, &head, data) == 0)
        puts("REACHED capset");
    if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1)
        puts("REACHED new privileges");
    puts("refused");
    return 0;
}
