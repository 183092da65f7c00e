//: what = "bpf, perf_event_open and userfaultfd"
//: has = ["refused"]
//: lacks = ["REACHED"]
#define _GNU_SOURCE
#include <linux/bpf.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(void)
{
    union bpf_attr map;
    char event[120] = {0};
    memset(&map, 0, sizeof map);
    map.map_type = 2;
    map.key_size = map.value_size = 4;
    map.max_entries = 1;
    if (syscall(SYS_bpf, 0, &map, sizeof map) >= 0)
        puts("REACHED bpf");
    event[0] = 1;
    event[4] = 120;
    if (syscall(SYS_perf_event_open, event, 0, -1, -1, 0) >= 0)
        puts("REACHED perf");
    if (syscall(SYS_userfaultfd, 0) >= 0 || syscall(SYS_userfaultfd, 1) >= 0)
        puts("REACHED userfaultfd");
    puts("refused");
    return 0;
}
