#: what = "a hook with a variable that no program can be given"
#: outcome = ["DEPENDENCY_ERROR"]
#: dependencies = ["RE"]
#: says = ["too large"]
{ pkgs ? import <nixpkgs> { } }:
pkgs.mkShell {
  shellHook = ''
    export BIG=$(printf %0140000d 0)
  '';
}
