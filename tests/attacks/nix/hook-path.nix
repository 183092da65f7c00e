#: what = "PATH of the hook leads to the user's own programs: cutor does not start them for its own"
#: before = "chmod 755 env bash python3 sh"
#: then = "echo ran; command -v env"
#: has = ["ran", "/box/env"]
#: lacks = ["REACHED"]
#: [files]
#: env = "#!/bin/sh\necho REACHED env"
#: bash = "#!/bin/sh\necho REACHED bash"
#: sh = "#!/bin/sh\necho REACHED sh"
#: python3 = "#!/bin/sh\necho REACHED python3"
{ pkgs ? import <nixpkgs> { } }:
pkgs.mkShell {
  shellHook = "export PATH=/box:$PATH; hash -r";
}
