#: what = "an evaluation that never ends"
#: outcome = ["DEPENDENCY_ERROR"]
#: dependencies = ["TLE_CPU", "MLE"]
#: limits.dependencies.cpu_time_ms = 1500
builtins.foldl' (a: b: builtins.seq (builtins.hashString "sha512" (toString b)) a) 0 (builtins.genList (x: x) 50000000)
