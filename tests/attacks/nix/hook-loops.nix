#: what = "a hook that never ends"
#: outcome = ["DEPENDENCY_ERROR"]
#: dependencies = ["TLE_CPU"]
#: limits.dependencies.cpu_time_ms = 2000
{ pkgs ? import <nixpkgs> { } }:
pkgs.mkShell {
  shellHook = ''
    while :; do :; done
  '';
}
