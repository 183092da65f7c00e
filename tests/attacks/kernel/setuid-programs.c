//: what = "a program with the setuid bit, of the user's own and of the store"
//: has = ["refused"]
//: lacks = ["REACHED"]
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int count, char **words)
{
    if (count > 1 && strcmp(words[1], "again") == 0) {
        if (geteuid() != 1000 || getegid() != 1000)
            puts("REACHED another identity");
        puts("refused");
        return 0;
    }
    if (chown("attack", 0, 0) == 0 || mknod("/tmp/disk", S_IFBLK | 0666, 0x800) == 0)
        puts("REACHED chown or mknod");
    chmod("attack", 06755);
    fflush(stdout);
    char *self[] = {words[0], "again", NULL};
    return execv("./attack", self);
}
