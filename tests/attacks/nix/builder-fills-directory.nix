#: what = "a builder that fills its working directory"
#: outcome = ["DEPENDENCY_ERROR"]
#: dependencies = ["RE", "MLE"]
#: limits.dependencies.memory_bytes = 402653184
{ pkgs ? import <nixpkgs> { } }:
pkgs.mkShell {
  filled = pkgs.runCommand "filled-@TOKEN@" { } ''
    for n in 1 2 3 4 5 6 7 8 9 10 11 12; do head -c 60M /dev/zero > fill.$n; done
    touch $out
  '';
}
