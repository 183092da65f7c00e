exec ./primes
