#: what = "a derivation whose output has no path before it is built"
#: outcome = ["DEPENDENCY_ERROR"]
#: dependencies = ["RE"]
#: says = ["ca-derivations"]
#: lacks = ["REACHED"]
{ pkgs ? import <nixpkgs> { } }:
pkgs.mkShell {
  floating = pkgs.runCommand "floating-@TOKEN@" {
    __contentAddressed = true; outputHashMode = "recursive"; outputHashAlgo = "sha256";
  } "echo REACHED; echo > $out";
}
