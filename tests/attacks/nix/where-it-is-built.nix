#: what = "asking to be built on this machine, by nobody else, and with features of other machines"
#: outcome = ["DEPENDENCY_ERROR"]
#: dependencies = ["RE"]
#: says = ["kvm"]
#: lacks = ["REACHED"]
{ pkgs ? import <nixpkgs> { } }:
let
  local = pkgs.runCommand "local-@TOKEN@" { preferLocalBuild = true; allowSubstitutes = false; } "echo '{ }' > $out";
in
builtins.seq (import local) (pkgs.mkShell {
  elsewhere = pkgs.runCommand "elsewhere-@TOKEN@" { requiredSystemFeatures = [ "kvm" "cutor" ]; } "echo REACHED; touch $out";
})
