//: what = "huge pages, which the memory limit does not count where the machine keeps some: refused as where there are none"
//: has = ["mmap: Cannot allocate memory", "shmget: Cannot allocate memory", "memfd_create: Cannot allocate memory"]
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/shm.h>

static const size_t SIZE = 2 << 20;

static void say(const char *call, int refused)
{
    printf("%s: %s\n", call, refused ? strerror(errno) : "there");
}

int main(void)
{
    say("mmap", mmap(NULL, SIZE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0) == MAP_FAILED);
    say("shmget", shmget(IPC_PRIVATE, SIZE, SHM_HUGETLB | IPC_CREAT | 0600) < 0);
    say("memfd_create", memfd_create("x", MFD_HUGETLB) < 0);
    return 0;
}
