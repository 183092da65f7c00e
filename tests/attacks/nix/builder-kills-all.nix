#: what = "a builder that kills everything it may"
#: outcome = ["OK", "DEPENDENCY_ERROR"]
#: dependencies = ["OK", "RE"]
{ pkgs ? import <nixpkgs> { } }:
pkgs.mkShell {
  tried = pkgs.runCommand "kill-@TOKEN@" { } "kill -KILL -1; touch $out";
}
