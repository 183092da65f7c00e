#: what = "a compile step that floods its output"
#: stage = "compile"
#: outcome = ["COMPILE_ERROR"]
#: compile = ["OLE"]
#: limits.compile.stdout_bytes = 100000
exec yes flood
