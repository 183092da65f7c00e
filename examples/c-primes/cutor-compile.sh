exec gcc -O2 -Wall -o primes primes.c
