//: what = "threads without end: they count as processes"
//: outcome = ["OK"]
//: has = ["bounded"]
//: [limits.run]
//: processes = 40
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

static void *idle(void *unused)
{
    pause();
    return unused;
}

int main(void)
{
    pthread_attr_t small;
    pthread_t thread;
    int count = 0;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 65536);
    while (count < 5000 && pthread_create(&thread, &small, idle, NULL) == 0)
        count++;
    puts(count <= 45 ? "bounded" : "UNBOUNDED");
    return 0;
}
