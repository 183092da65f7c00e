#: what = "a hook that puts a link where its variables are captured"
#: outcome = ["DEPENDENCY_ERROR"]
#: dependencies = ["RE"]
#: lacks = ["root:"]
{ pkgs ? import <nixpkgs> { } }:
pkgs.mkShell {
  shellHook = ''
    ln -sf /etc/passwd /capture/variables; chmod 000 /capture; exit 0
  '';
}
