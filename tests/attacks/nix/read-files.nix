#: what = "reading files of the host, the image and Nix"
#: outcome = ["DEPENDENCY_ERROR"]
#: dependencies = ["RE"]
#: says = ["is forbidden"]
#: lacks = ["root:"]
let
  tried = map (path: builtins.tryEval (builtins.pathExists path && builtins.readFile path != "")) [
    "/etc/shadow" "/etc/passwd" "/proc/1/environ" "/nix/var/nix/db/db.sqlite" "/root/.ssh/id_rsa"
  ];
in
builtins.deepSeq tried (builtins.readFile "/etc/shadow")
