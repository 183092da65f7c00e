#: what = "running a program from the evaluation"
#: outcome = ["DEPENDENCY_ERROR"]
#: dependencies = ["RE"]
#: says = ["attribute 'exec' missing"]
builtins.exec [ "/usr/bin/id" ]
