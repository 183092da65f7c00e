#: what = "copying a directory above the submission into the store"
#: outcome = ["DEPENDENCY_ERROR"]
#: dependencies = ["RE"]
{ pkgs ? import <nixpkgs> { } }:
pkgs.mkShell {
  stolen = builtins.path { path = /.; name = "stolen-@TOKEN@"; };
}
