#: what = "a derivation that asks for files of the host in its sandbox"
#: outcome = ["DEPENDENCY_ERROR"]
#: dependencies = ["RE"]
#: then = "cat $open"
#: lacks = ["root:"]
{ pkgs ? import <nixpkgs> { } }:
pkgs.mkShell {
  open = derivation {
    name = "open-@TOKEN@";
    system = builtins.currentSystem;
    builder = "${pkgs.bash}/bin/bash";
    args = [ "-c" "echo $(< /etc/shadow) > $out" ];
    __impureHostDeps = [ "/etc/shadow" ];
    __sandboxProfile = "(allow default)";
  };
}
