#: what = "a hook that ends its own shell by a signal"
#: outcome = ["DEPENDENCY_ERROR"]
#: dependencies = ["SG"]
{ pkgs ? import <nixpkgs> { } }:
pkgs.mkShell {
  shellHook = ''
    kill -KILL $$
  '';
}
