#: what = "a build that fails is tried again by the next: failures are never shared"
#: outcome = ["DEPENDENCY_ERROR"]
#: dependencies = ["RE"]
#: submissions = 2
#: cache = true
#: says = ["tried at"]
#: fresh = true
{ pkgs ? import <nixpkgs> { } }:
pkgs.mkShell {
  shellHook = "echo tried at $EPOCHREALTIME; exit 9";
}
