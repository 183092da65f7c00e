#: what = "a hook that takes all memory"
#: outcome = ["DEPENDENCY_ERROR"]
#: dependencies = ["MLE"]
#: limits.dependencies.memory_bytes = 268435456
{ pkgs ? import <nixpkgs> { } }:
pkgs.mkShell {
  shellHook = ''
    x=xxxxxxxxxxxxxxxx; while :; do x=$x$x; done
  '';
}
