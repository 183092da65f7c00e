#: what = "a builder that leaves a daemon which holds its output and its log"
#: then = "cat $left"
#: has = ["left"]
#: limits.dependencies.wall_time_ms = 30000
{ pkgs ? import <nixpkgs> { } }:
pkgs.mkShell {
  left = pkgs.runCommand "daemon-@TOKEN@" { } ''
    (trap "" HUP TERM; for n in 1 2 3 4 5 6; do sleep 10; done) &
    kill -0 $! && echo left > $out
    disown
  '';
}
