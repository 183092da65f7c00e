#: what = "fetching a file of the image by Nix's own builder, which is a process of the daemon's"
#: outcome = ["DEPENDENCY_ERROR"]
#: dependencies = ["RE"]
#: says = ["unable to download"]
#: lacks = ["hash mismatch"]
{ pkgs ? import <nixpkgs> { } }:
pkgs.mkShell {
  fetched = derivation {
    name = "fetched-@TOKEN@";
    system = "builtin";
    builder = "builtin:fetchurl";
    url = "file:///opt/cutor/cutor/nix/inside/build_init.py";
    outputHashMode = "flat";
    outputHashAlgo = "sha256";
    outputHash = "0000000000000000000000000000000000000000000000000000000000000000";
  };
}
