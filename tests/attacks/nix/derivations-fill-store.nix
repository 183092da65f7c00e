#: what = "one derivation after the other, each of which adds a little to the store"
#: outcome = ["DEPENDENCY_ERROR"]
#: dependencies = ["FSE"]
#: says = ["to the store (nix.store_bytes)"]
#: limits.dependencies.wall_time_ms = 60000
{ pkgs ? import <nixpkgs> { } }:
let
  after = n: if n == 0 then null else pkgs.runCommand "adds-@TOKEN@-${toString n}" { before = after (n - 1); } ''
    head -c 40M /dev/zero > $out
  '';
in
pkgs.mkShell { added = after 40; }
