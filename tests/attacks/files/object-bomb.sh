#: what = "a line of source that the compiler makes a file of two gigabytes of"
#: stage = "compile"
#: outcome = ["COMPILE_ERROR"]
#: compile = ["RE"]
#: says = ["ile size limit exceeded"]
#: [limits.compile]
#: memory_bytes = 268435456
#: cpu_time_ms = 3000
echo 'char room[2000000000] = {1}; int main(void) { return room[5]; }' > bomb.c
exec gcc -o bomb bomb.c
