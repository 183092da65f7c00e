#: what = "directories without rights, full of files, are removed all the same"
#: stage = "compile"
#: then = "exec bash cutor-compile.sh"
#: test_cases = [{}, {}]
#: has = ["closed 0\n/tmp/closed 0"]
mkdir -p closed/in/side
touch closed/in/side/file closed/file
chmod 000 closed/in/side closed/in closed
rm -rf /tmp/closed
mkdir -p /tmp/closed/in && chmod 000 /tmp/closed/in /tmp/closed
stat -c '%n %a' closed /tmp/closed
