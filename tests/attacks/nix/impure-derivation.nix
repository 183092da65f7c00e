#: what = "a derivation that may use the network because it promises nothing"
#: outcome = ["DEPENDENCY_ERROR"]
#: dependencies = ["RE"]
#: says = ["impure-derivations"]
#: lacks = ["REACHED"]
{ pkgs ? import <nixpkgs> { } }:
pkgs.mkShell {
  impure = pkgs.runCommand "impure-@TOKEN@" { __impure = true; } "echo REACHED; echo > $out";
}
