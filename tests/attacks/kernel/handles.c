//: what = "files by handle, and a chroot out of the jail"
//: has = ["refused"]
//: lacks = ["REACHED"]
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(void)
{
    struct { unsigned bytes; int type; unsigned long long place[16]; } handle = {8, 1, {2}};
    int mount, root = open("/", O_RDONLY);
    if (syscall(SYS_name_to_handle_at, AT_FDCWD, "/box", &handle, &mount, 0) == 0)
        puts("REACHED name_to_handle_at");
    if (syscall(SYS_open_by_handle_at, root, &handle, O_RDONLY) >= 0)
        puts("REACHED open_by_handle_at");
    mkdir("/tmp/below", 0777);
    if (chroot("/tmp/below") == 0) {
        puts("REACHED chroot");
        fchdir(root);
        for (int n = 0; n < 64; n++)
            chdir("..");
        chroot(".");
    }
    puts("refused");
    return 0;
}
