#: what = "a hook that becomes another program"
#: outcome = ["DEPENDENCY_ERROR"]
#: dependencies = ["RE"]
#: says = ["before its variables were captured"]
{ pkgs ? import <nixpkgs> { } }:
pkgs.mkShell {
  shellHook = ''
    exec true
  '';
}
