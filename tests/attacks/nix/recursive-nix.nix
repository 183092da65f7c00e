#: what = "a builder that wants Nix's socket inside of its sandbox"
#: outcome = ["DEPENDENCY_ERROR"]
#: dependencies = ["RE"]
#: says = ["recursive-nix"]
#: lacks = ["REACHED"]
{ pkgs ? import <nixpkgs> { } }:
pkgs.mkShell {
  inner = pkgs.runCommand "recursive-@TOKEN@" { requiredSystemFeatures = [ "recursive-nix" ]; } "echo REACHED; echo $NIX_REMOTE > $out";
}
