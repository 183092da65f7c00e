#: what = "recursion that only the stack ends"
#: outcome = ["DEPENDENCY_ERROR"]
#: dependencies = ["RE"]
#: says = ["stack overflow"]
let f = n: f (n + 1) + 1; in f 1
