#: what = "SIGKILL of the builder when the environment is built: the runner needs it no more"
#: kill = { process = "builder", at = "cache-built" }
#: then = "cat $quick"
#: has = ["built"]
{ pkgs ? import <nixpkgs> { } }:
pkgs.mkShell {
  quick = pkgs.runCommand "quick-@TOKEN@" { } "echo built > $out";
}
