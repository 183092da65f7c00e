//: what = "writing the disks of the whole host, over and over, in calls that can't be killed"
//: has = ["done"]
//: limits.run.wall_time_ms = 10000
#include <stdio.h>
#include <unistd.h>

int main(void)
{
    for (int n = 0; n < 300000; n++) /* a real one takes milliseconds at the least */
        sync();
    puts("done");
    return 0;
}
