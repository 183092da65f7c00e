#: what = "a builder whose output is larger than a file may be"
#: outcome = ["DEPENDENCY_ERROR"]
#: dependencies = ["RE"]
#: says = ["File size limit exceeded"]
#: limits.dependencies.file_size_bytes = 20000000
{ pkgs ? import <nixpkgs> { } }:
pkgs.mkShell {
  filled = pkgs.runCommand "huge-@TOKEN@" { } "head -c 1G /dev/zero > $out";
}
