//: what = "a segmentation fault is a signal"
//: outcome = ["RUN_ERROR"]
//: run = ["SG"]
//: signal = 11
int main(void)
{
    volatile int *nowhere = 0;
    return *nowhere;
}
