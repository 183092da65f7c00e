#: what = "endless recursion"
#: outcome = ["DEPENDENCY_ERROR"]
#: dependencies = ["RE"]
#: says = ["infinite recursion"]
let x = x; in x
