#: what = "a hook that waits for ever"
#: outcome = ["DEPENDENCY_ERROR"]
#: dependencies = ["TLE_WALL"]
#: limits.dependencies.wall_time_ms = 3000
{ pkgs ? import <nixpkgs> { } }:
pkgs.mkShell {
  shellHook = ''
    sleep 1000
  '';
}
