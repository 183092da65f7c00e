#: what = "SIGKILL of the build container in the middle of a build: the build is made again"
#: kill = { process = "container", at = "leased builder" }
#: after_ms = 1500
#: then = "cat $slow"
#: has = ["built"]
{ pkgs ? import <nixpkgs> { } }:
pkgs.mkShell {
  slow = pkgs.runCommand "slow-@TOKEN@" { } "sleep 3; echo built > $out";
}
