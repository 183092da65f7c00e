#include <stdio.h>

/* Prints the primes up to the number on standard input. */
int main(void) {
    int limit;
    if (scanf("%d", &limit) != 1) {
        fprintf(stderr, "a number is needed\n");
        return 2;
    }
    for (int candidate = 2; candidate <= limit; candidate++) {
        int divisor = 2;
        while (divisor * divisor <= candidate && candidate % divisor != 0)
            divisor++;
        if (divisor * divisor > candidate)
            printf("%d ", candidate);
    }
    printf("\n");
    return 0;
}
