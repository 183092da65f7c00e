//: what = "memory by messages that nobody takes from System V queues"
//: outcome = ["RUN_ERROR"]
//: run = ["MLE"]
//: limits.run.memory_bytes = 67108864
//: test_cases = [{}, {}]
#include <sys/msg.h>
#include <unistd.h>

int main(void)
{
    static struct {
        long kind;
        char text[8000];
    } message = {1, ""};
    int queue;
    while ((queue = msgget(IPC_PRIVATE, 0600)) >= 0)
        while (msgsnd(queue, &message, sizeof message.text, IPC_NOWAIT) == 0)
            ;
    pause();
    return 0;
}
