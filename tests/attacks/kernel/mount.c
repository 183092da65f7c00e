//: what = "mounting, unmounting and changing the root, by the old calls and the new"
//: has = ["refused"]
//: lacks = ["REACHED"]
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(void)
{
    static const char *const places[] = {"/tmp", "/proc", "/box", "/dev", "/nix/store", "/"};
    for (int n = 0; n < 6; n++) {
        if (mount("none", places[n], "tmpfs", 0, "") == 0 || mount("/proc", places[n], 0, MS_BIND, 0) == 0)
            puts("REACHED mount");
        if (mount(0, places[n], 0, MS_REMOUNT | MS_BIND, 0) == 0)
            puts("REACHED remount");
        if (umount2(places[n], MNT_DETACH) == 0)
            puts("REACHED umount");
        if (syscall(SYS_open_tree, AT_FDCWD, places[n], 1) >= 0)
            puts("REACHED open_tree");
    }
    if (syscall(SYS_pivot_root, "/tmp", "/tmp") == 0)
        puts("REACHED pivot_root");
    if (syscall(SYS_fsopen, "tmpfs", 0) >= 0)
        puts("REACHED fsopen");
    puts("refused");
    return 0;
}
