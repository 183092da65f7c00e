/* Loaded before libuv by node of the offline package set: Debian builds node to read parts of its JavaScript library
   from /usr/share/nodejs when it starts, and aborts without them. Here they are below HERE, the package in the store. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

static const char prefix[] = "/usr/share/nodejs/";

typedef int open_function(void *loop, void *request, const char *path, int flags, int mode, void *done);

int uv_fs_open(void *loop, void *request, const char *path, int flags, int mode, void *done)
{
    open_function *next = (open_function *)dlsym(RTLD_NEXT, "uv_fs_open");
    char moved[PATH_MAX];

    if (strncmp(path, prefix, sizeof prefix - 1) == 0
        && snprintf(moved, sizeof moved, "%s%s", HERE, path) < (int)sizeof moved)
        path = moved;
    return next(loop, request, path, flags, mode, done);
}
