#: what = "a fork bomb in a hook"
#: outcome = ["DEPENDENCY_ERROR"]
#: dependencies = ["TLE_WALL", "TLE_CPU", "RE"]
#: [limits.dependencies]
#: processes = 64
#: wall_time_ms = 3000
{ pkgs ? import <nixpkgs> { } }:
pkgs.mkShell {
  shellHook = ''
    bomb() { bomb | bomb & }; bomb 2> /dev/null; sleep 100
  '';
}
