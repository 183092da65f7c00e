#: what = "a string that claims to depend on what was never built"
#: outcome = ["DEPENDENCY_ERROR"]
#: dependencies = ["RE"]
{ pkgs ? import <nixpkgs> { } }:
pkgs.mkShell {
  forged = builtins.appendContext "/nix/store/00000000000000000000000000000000-forged" {
    "/nix/store/00000000000000000000000000000000-forged" = { path = true; };
  };
}
