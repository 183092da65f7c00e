#: what = "SIGKILL of the NATS server in the middle of a build"
#: kill = { process = "server", at = "leased builder" }
#: after_ms = 800
#: then = "cat $slow"
#: has = ["built"]
{ pkgs ? import <nixpkgs> { } }:
pkgs.mkShell {
  slow = pkgs.runCommand "slow-@TOKEN@" { } "sleep 2; echo built > $out";
}
