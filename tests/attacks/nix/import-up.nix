#: what = "importing files beside the submission"
#: outcome = ["DEPENDENCY_ERROR"]
#: dependencies = ["RE"]
#: says = ["forbidden"]
import ../environment/../etc/nix/nix.conf
