//: what = "memory by files, held by tiny processes that ask to be spared: nobody is larger than the init"
//: outcome = ["RUN_ERROR"]
//: run = ["MLE"]
//: limits.run.memory_bytes = 33554432
//: limits.run.file_size_bytes = 536870912
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int main(void)
{
    static char piece[65536];
    int score = open("/proc/self/oom_score_adj", O_WRONLY);
    if (score >= 0 && write(score, "0", 1) != 1)
        puts("refused");
    memset(piece, 1, sizeof piece);
    for (int n = 0; n < 5; n++)
        fork();
    int file = open("/tmp/file", O_CREAT | O_RDWR | O_APPEND, 0600);
    while (write(file, piece, sizeof piece) > 0)
        ;
    return 0;
}
