//: what = "watches on files and directories of the store: what others open and read is not told"
//: submissions = 2
//: beside = true
//: has = ["watched"]
//: lacks = ["FOUND", "nothing"]
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

int main(void)
{
    int watch = inotify_init1(IN_NONBLOCK);
    char *path = strdup(getenv("PATH"));
    int watched = 0;
    inotify_add_watch(watch, "/nix/store", IN_ALL_EVENTS);
    for (char *place = strtok(path, ":"); place; place = strtok(0, ":"))
        watched += inotify_add_watch(watch, place, IN_ALL_EVENTS) >= 0;
    struct pollfd waiting = {watch, POLLIN, 0};
    if (poll(&waiting, 1, 1500) != 0) /* the other's shell and this program are started from there meanwhile */
        puts("FOUND");
    puts(watched ? "watched" : "watched nothing");
    return 0;
}
