#: what = "an evaluation that writes sources into the store, without a builder"
#: outcome = ["DEPENDENCY_ERROR"]
#: dependencies = ["FSE", "MLE"]
#: limits.dependencies.wall_time_ms = 60000
{ pkgs ? import <nixpkgs> { } }:
let
  large = builtins.concatStringsSep "" (builtins.genList (n: "0123456789abcdef") 262144);
in
pkgs.mkShell { sources = map (n: builtins.toFile "source-@TOKEN@-${toString n}" "${toString n}${large}") (builtins.genList (n: n) 400); }
