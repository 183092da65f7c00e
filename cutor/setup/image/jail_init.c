/*
 * jail-init: process 1 of every jail.
 *
 * nsjail builds the jail, applies the system call policy and starts this program with one descriptor passed on: a SEQPACKET
 * socket whose other end the stage routine holds. From then on:
 *
 *   jail-init -> stage   READY        the jail stands; nothing of the user's has run
 *   stage -> jail-init   one byte and four descriptors: the job (a memfd), and the program's stdin, stdout and stderr
 *   jail-init -> stage   STARTED      the program's execve succeeded; or EXEC_FAILED, or BROKEN, with an errno
 *   jail-init -> stage   ENDED        the program's raw wait status
 *
 * and it exits, which ends every process that is left in the jail's pid namespace.
 *
 * Why it exists: a program that is process 1 itself ignores its own signals; a raw wait status tells exit code 139 from a
 * segmentation fault; arguments and variables are bytes of up to 128 KiB each, which no command line of nsjail's takes; and
 * limits set here, after the jail is built, count for the program alone.
 *
 * The program can't reach the socket: every descriptor from 3 on is closed when it starts, this process is not dumpable (so
 * /proc/1/fd and /proc/1/mem are closed to it), and ptrace and pidfd_getfd are denied. Signals from inside don't reach
 * process 1.
 *
 * Where its uid is nobody else's (a second argument says so), the jail stands only once no descriptor of that uid is on its way in a
 * socket any more. The kernel counts those by uid, refuses more to who has as many as it may open files, and frees what a
 * program left in a chain of such sockets bit by bit, for seconds after its end: memory, files and the count would be met by
 * who comes next.
 *
 * The job, in host byte order: struct job, then `limits` times struct limit, then NUL-terminated strings: the directory, `argc`
 * arguments, `envc` variables. argv[0] is the program's path. Built statically: a jail holds no C library of ours.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum kind { READY = 1, STARTED = 2, EXEC_FAILED = 3, ENDED = 4, BROKEN = 5 };

struct report {
    uint32_t kind;
    int32_t value;         /* errno, or a wait status */
    uint64_t monotonic_ns; /* when it happened: the stage's wall time is a difference of two of these */
};

struct job {
    uint32_t limits, argc, envc, reserved;
};

struct limit {
    uint64_t resource, soft, hard;
};

struct program {
    const struct limit *limits;
    uint32_t limit_count;
    const char *directory;
    char **argv, **envp;
    int io[3];
};

static int channel;

static uint64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static void report_at(enum kind kind, int value, uint64_t monotonic_ns)
{
    struct report message = {kind, value, monotonic_ns};
    if (send(channel, &message, sizeof message, MSG_NOSIGNAL) != sizeof message)
        _exit(1); /* nobody listens any more: end the jail */
}

static void report(enum kind kind, int value)
{
    report_at(kind, value, now());
}

static _Noreturn void broken(int error)
{
    report(BROKEN, error);
    _exit(1);
}

/* Waits until nothing of this uid is on its way: of more than no descriptor the kernel refuses the next one (ETOOMANYREFS). */
static void await_arrivals(void)
{
    int ends[2];
    const int any = STDIN_FILENO;
    struct rlimit files, no_files;
    char byte = 0;
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(sizeof any)];
    } control = {0};
    struct iovec data = {&byte, 1};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    const struct timespec pause = {0, 1000000};

    if (socketpair(AF_UNIX, SOCK_DGRAM, 0, ends) < 0 || getrlimit(RLIMIT_NOFILE, &files) < 0)
        broken(errno);
    *head = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof any)};
    memcpy(CMSG_DATA(head), &any, sizeof any);
    no_files = (struct rlimit){0, files.rlim_max};
    if (setrlimit(RLIMIT_NOFILE, &no_files) < 0)
        broken(errno);
    while (sendmsg(ends[0], &message, 0) < 0) {
        if (errno != ETOOMANYREFS)
            broken(errno);
        nanosleep(&pause, NULL);
    }
    if (setrlimit(RLIMIT_NOFILE, &files) < 0)
        broken(errno);
    close(ends[0]);
    close(ends[1]);
}

/* Waits for the job. Returns its memfd, and fills in the program's three descriptors. */
static int receive(struct program *program)
{
    int descriptors[4];
    char byte;
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(sizeof descriptors)];
    } control;
    struct iovec data = {&byte, 1};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};

    ssize_t got;
    do
        got = recvmsg(channel, &message, MSG_CMSG_CLOEXEC);
    while (got < 0 && errno == EINTR);
    if (got <= 0)
        _exit(0); /* the stage routine went away before it had a job */
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    if (!head || head->cmsg_type != SCM_RIGHTS || head->cmsg_len != CMSG_LEN(sizeof descriptors))
        broken(EBADMSG);
    memcpy(descriptors, CMSG_DATA(head), sizeof descriptors);
    memcpy(program->io, descriptors + 1, sizeof program->io);
    return descriptors[0];
}

/* Takes the next string of the job, or ends the jail where there is none. */
static char *next(char **at, char *end)
{
    char *string = *at, *nul = memchr(string, 0, (size_t)(end - string));
    if (!nul)
        broken(EBADMSG);
    *at = nul + 1;
    return string;
}

static char **strings(uint32_t count, char **at, char *end)
{
    char **list = calloc((size_t)count + 1, sizeof *list);
    if (!list)
        broken(ENOMEM);
    for (uint32_t i = 0; i < count; i++)
        list[i] = next(at, end);
    return list;
}

static void load(int job, struct program *program)
{
    struct stat size;
    if (fstat(job, &size) < 0)
        broken(errno);
    char *start = mmap(NULL, (size_t)size.st_size, PROT_READ | PROT_WRITE, MAP_PRIVATE, job, 0);
    if (start == MAP_FAILED)
        broken(errno);
    char *end = start + size.st_size, *at = start + sizeof(struct job);
    const struct job *header = (const struct job *)start;
    if (at > end || header->limits > 32 || (size_t)(end - at) < header->limits * sizeof(struct limit) || header->argc < 1)
        broken(EBADMSG);
    program->limits = (const struct limit *)at;
    program->limit_count = header->limits;
    at += header->limits * sizeof(struct limit);
    program->directory = next(&at, end);
    program->argv = strings(header->argc, &at, end);
    program->envp = strings(header->envc, &at, end);
    close(job);
}

/* What the child leaves for its parent, whose memory it shares: what failed, and when its own program began. The parent may come
   back from vfork long after that, on a busy machine when a short program has ended already. */
struct beginning {
    int error;
    uint64_t monotonic_ns;
};

/* In the child: never returns. */
static _Noreturn void become(const struct program *program, volatile struct beginning *beginning)
{
    sigset_t none;
    sigemptyset(&none);
    for (int number = 1; number < _NSIG; number++)
        signal(number, SIG_DFL); /* an ignored signal would stay ignored through execve */
    sigprocmask(SIG_SETMASK, &none, NULL);
    setsid();
    /* who measures goes before who is measured: the init watches clocks and pipes, jail-init sees the program's end in time */
    setpriority(PRIO_PROCESS, 0, 19);
    for (int i = 0; i < 3; i++)
        if (dup2(program->io[i], i) < 0)
            goto failed;
    if (syscall(SYS_close_range, 3u, ~0u, 4u /* CLOSE_RANGE_CLOEXEC */) < 0 || chdir(program->directory) < 0)
        goto failed;
    for (uint32_t i = 0; i < program->limit_count; i++) {
        struct rlimit limit = {program->limits[i].soft, program->limits[i].hard};
        if (setrlimit((int)program->limits[i].resource, &limit) < 0)
            goto failed;
    }
    beginning->monotonic_ns = now();
    execve(program->argv[0], program->argv, program->envp);
failed:
    beginning->error = errno;
    _exit(127);
}

int main(int argc, char **argv)
{
    struct program program = {0};
    volatile struct beginning beginning = {0};
    int status;

    if (argc != 2 && argc != 3)
        return 2;
    channel = atoi(argv[1]);
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 || fcntl(channel, F_SETFD, FD_CLOEXEC) < 0)
        return 2;
    if (argc == 3)
        await_arrivals();
    report(READY, 0);
    load(receive(&program), &program);

    pid_t child = vfork(); /* returns here once the child has become the program, or failed to */
    if (child < 0)
        broken(errno);
    if (child == 0)
        become(&program, &beginning);
    for (int i = 0; i < 3; i++)
        close(program.io[i]); /* or the pipes would never end */
    report_at(beginning.error ? EXEC_FAILED : STARTED, beginning.error, beginning.monotonic_ns);

    for (;;) { /* reap the program, and every orphan before it */
        pid_t ended = waitpid(-1, &status, 0);
        if (ended == child)
            break;
        if (ended < 0 && errno != EINTR)
            broken(errno);
    }
    if (!beginning.error)
        report(ENDED, status);
    return 0;
}
