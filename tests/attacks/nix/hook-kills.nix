#: what = "a hook that ends its own shell by a signal"
#: outcome = ["DEPENDENCY_ERROR"]
#: dependencies = ["SG", "RE"]
{ pkgs ? import <nixpkgs> { } }:
pkgs.mkShell {
  shellHook = ''
    kill -KILL $$
  '';
}
