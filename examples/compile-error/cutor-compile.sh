exec gcc -O2 -Wall -o hello hello.c
