#: what = "a few lines of source that the preprocessor makes gigabytes of"
#: stage = "compile"
#: outcome = ["COMPILE_ERROR"]
#: compile = ["MLE", "TLE_CPU"]
#: [limits.compile]
#: memory_bytes = 134217728
#: cpu_time_ms = 3000
{
  echo '#define A0 0+'
  for n in {1..34}; do echo "#define A$n A$((n - 1)) A$((n - 1))"; done
  echo 'int main(void) { return A34 0; }'
} > bomb.c
exec gcc -o bomb bomb.c
