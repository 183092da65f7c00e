#: what = "listing the store and the daemon's directories"
#: outcome = ["DEPENDENCY_ERROR"]
#: dependencies = ["RE"]
#: says = ["is forbidden"]
#: lacks = ["-python3"]
builtins.toJSON (builtins.readDir "/nix/store")
