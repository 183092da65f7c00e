//: what = "the clock, the host's name, swap, reboot, modules and the kernel's log"
//: has = ["refused"]
//: lacks = ["REACHED"]
#define _GNU_SOURCE
#include <linux/reboot.h>
#include <stdio.h>
#include <sys/klog.h>
#include <sys/reboot.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

int main(void)
{
    struct timespec then = {1000000000, 0};
    struct timeval past = {1000000000, 0};
    if (clock_settime(CLOCK_REALTIME, &then) == 0 || settimeofday(&past, NULL) == 0)
        puts("REACHED the clock");
    if (sethostname("evil", 4) == 0 || setdomainname("evil", 4) == 0)
        puts("REACHED the name");
    if (reboot(LINUX_REBOOT_CMD_CAD_OFF) == 0)
        puts("REACHED reboot");
    if (swapon("/tmp/swap", 0) == 0 || swapoff("/tmp/swap") == 0)
        puts("REACHED swap");
    if (syscall(SYS_finit_module, 0, "", 0) == 0 || syscall(SYS_init_module, "", 0L, "") == 0)
        puts("REACHED modules");
    if (klogctl(3, (char[64]){0}, 64) >= 0)
        puts("REACHED the log");
    puts("refused");
    return 0;
}
