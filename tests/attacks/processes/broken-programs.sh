#: what = "programs that can't be executed: the shell's word for it, no fault"
#: outcome = ["RUN_ERROR"]
#: run = ["RE"]
#: exit_code = 126
#: has = ["126"]
printf '\177ELF\002\001\001\0' > broken
chmod +x broken
./broken
echo $?
mkdir directory
exec ./directory
