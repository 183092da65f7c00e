#: what = "a list that no memory holds"
#: outcome = ["DEPENDENCY_ERROR"]
#: dependencies = ["MLE"]
#: limits.dependencies.memory_bytes = 268435456
let l = builtins.genList (x: x) 100000000; in builtins.deepSeq l l
