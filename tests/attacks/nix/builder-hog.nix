#: what = "a builder that takes all memory"
#: outcome = ["DEPENDENCY_ERROR"]
#: dependencies = ["MLE"]
#: limits.dependencies.memory_bytes = 268435456
{ pkgs ? import <nixpkgs> { } }:
pkgs.mkShell {
  hog = pkgs.runCommand "hog-@TOKEN@" { } "x=xxxxxxxxxxxxxxxx; while :; do x=$x$x; done";
}
