#: what = "a source file that includes /dev/zero"
#: stage = "compile"
#: outcome = ["COMPILE_ERROR"]
#: compile = ["MLE", "TLE_CPU"]
#: [limits.compile]
#: memory_bytes = 134217728
#: cpu_time_ms = 3000
printf '#include "/dev/zero"\nint main(void) { return 0; }\n' > zero.c
exec gcc -o zero zero.c
