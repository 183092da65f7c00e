#: what = "a fixed output whose hash is another's"
#: outcome = ["DEPENDENCY_ERROR"]
#: dependencies = ["RE"]
#: says = ["hash mismatch"]
{ pkgs ? import <nixpkgs> { } }:
pkgs.mkShell {
  claimed = derivation {
    name = "claimed-@TOKEN@";
    system = builtins.currentSystem;
    builder = "${pkgs.bash}/bin/bash";
    args = [ "-c" "echo planted > $out" ];
    outputHashMode = "flat";
    outputHashAlgo = "sha256";
    outputHash = "0000000000000000000000000000000000000000000000000000000000000000";
  };
}
