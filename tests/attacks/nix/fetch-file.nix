#: what = "fetching a file of the image as if it were on the network"
#: outcome = ["DEPENDENCY_ERROR"]
#: dependencies = ["RE"]
#: says = ["is forbidden"]
#: lacks = ["root:"]
builtins.trace (builtins.readFile (builtins.fetchurl "file:///etc/passwd")) (import <nixpkgs> { }).mkShell { }
