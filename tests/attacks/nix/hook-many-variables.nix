#: what = "a hook with more variables than a program can be given"
#: outcome = ["DEPENDENCY_ERROR"]
#: dependencies = ["RE"]
#: says = ["large"]
{ pkgs ? import <nixpkgs> { } }:
pkgs.mkShell {
  shellHook = ''
    for n in {1..30}; do export BIG$n=$(printf %0120000d 0); done
  '';
}
