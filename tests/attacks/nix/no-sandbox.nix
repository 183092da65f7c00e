#: what = "a derivation that asks to be built without a sandbox"
#: outcome = ["DEPENDENCY_ERROR"]
#: dependencies = ["RE"]
#: says = ["__noChroot"]
{ pkgs ? import <nixpkgs> { } }:
pkgs.mkShell {
  open = derivation {
    name = "open-@TOKEN@";
    system = builtins.currentSystem;
    builder = "${pkgs.bash}/bin/bash";
    args = [ "-c" "echo REACHED > $out" ];
    __noChroot = true;
  };
}
