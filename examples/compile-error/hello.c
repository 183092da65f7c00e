#include <stdio.h>

int main(void) {
    printf("the semicolon is missing\n")
    return 0;
}
