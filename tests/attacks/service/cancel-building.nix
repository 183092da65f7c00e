#: what = "a cancel in the middle of a build"
#: cancel = "leased builder"
#: after_ms = 800
#: outcome = ["CANCELLED"]
#: dependencies = ["CANCELLED"]
{ pkgs ? import <nixpkgs> { } }:
pkgs.mkShell {
  slow = pkgs.runCommand "slow-@TOKEN@" { } "sleep 50; echo built > $out";
}
