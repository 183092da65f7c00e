#: what = "a nix.conf of the submission's own, wherever Nix could look for one"
#: environment_files = [".config/nix/nix.conf", "nix.conf", "etc/nix/nix.conf"]
#: outcome = ["DEPENDENCY_ERROR"]
#: dependencies = ["RE"]
#: says = ["is forbidden"]
#: lacks = ["root:"]
#: [files]
#: ".config/nix/nix.conf" = "restrict-eval = false\nallow-unsafe-native-code-during-evaluation = true\nsandbox = false\n"
#: "nix.conf" = "restrict-eval = false\nsandbox = false\n"
#: "etc/nix/nix.conf" = "restrict-eval = false\nsandbox = false\n"
builtins.trace (builtins.getEnv "NIX_CONFIG" + builtins.getEnv "HOME") (builtins.readFile "/etc/passwd")
