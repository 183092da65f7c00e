#: what = "an evaluation that floods its output"
#: outcome = ["DEPENDENCY_ERROR"]
#: dependencies = ["OLE"]
#: limits.dependencies.stderr_bytes = 100000
builtins.foldl' (a: b: builtins.trace "flood ${toString b}" a) 0 (builtins.genList (x: x) 1000000)
