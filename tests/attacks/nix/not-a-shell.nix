#: what = "an expression that is no shell, and one that pretends to be a derivation"
#: outcome = ["DEPENDENCY_ERROR"]
#: dependencies = ["RE"]
#: lacks = ["root:"]
{ type = "derivation"; drvPath = "/etc/shadow"; outPath = "/etc/shadow"; name = "x"; outputName = "out"; }
