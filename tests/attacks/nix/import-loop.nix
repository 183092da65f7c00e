#: what = "importing what was built, which says what to build next, without end"
#: outcome = ["DEPENDENCY_ERROR"]
#: dependencies = ["TLE_WALL"]
#: limits.dependencies.wall_time_ms = 4000
{ pkgs ? import <nixpkgs> { } }:

let
  next = n: import (pkgs.runCommand "next-@TOKEN@-${toString n}" { } "echo 'n: n + 1' > $out") n;
  go = n: let following = next n; in builtins.seq following (go following);
in
go 0
