#: what = "a compile step that takes every right from the box: the runs start all the same"
#: stage = "compile"
#: then = "echo ran"
#: test_cases = [{}, {}]
#: has = ["ran"]
#: says = ["closed: 0"]
chmod 000 /box
stat -c 'closed: %a' /box
