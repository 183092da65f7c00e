#: what = "a hook that exits 0 before the variables are captured: no environment, no success"
#: outcome = ["DEPENDENCY_ERROR"]
#: dependencies = ["RE"]
#: says = ["before its variables were captured"]
{ pkgs ? import <nixpkgs> { } }:
pkgs.mkShell {
  shellHook = ''
    export A=1; exit 0
  '';
}
