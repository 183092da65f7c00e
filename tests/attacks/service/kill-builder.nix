#: what = "SIGKILL of the builder in the middle of a build: another life of it ends the build"
#: kill = { process = "builder", at = "leased builder" }
#: after_ms = 800
#: then = "cat $slow"
#: has = ["built"]
{ pkgs ? import <nixpkgs> { } }:
pkgs.mkShell {
  slow = pkgs.runCommand "slow-@TOKEN@" { } "sleep 2; echo built > $out";
}
