#: what = "a builder that floods its log"
#: outcome = ["DEPENDENCY_ERROR"]
#: dependencies = ["OLE"]
#: limits.dependencies.stderr_bytes = 100000
{ pkgs ? import <nixpkgs> { } }:
pkgs.mkShell {
  flood = pkgs.runCommand "flood-@TOKEN@" { } "yes flood; touch $out";
}
