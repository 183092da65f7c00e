#: what = "SIGKILL of the builder at the hand-in"
#: kill = { process = "builder", at = "submitted" }
#: then = "cat $quick"
#: has = ["built"]
{ pkgs ? import <nixpkgs> { } }:
pkgs.mkShell {
  quick = pkgs.runCommand "quick-@TOKEN@" { } "echo built > $out";
}
