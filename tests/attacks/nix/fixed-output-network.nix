#: what = "a fixed output, which Nix builds with the network: there is none"
#: outcome = ["DEPENDENCY_ERROR"]
#: dependencies = ["RE"]
#: lacks = ["REACHED"]
{ pkgs ? import <nixpkgs> { } }:
pkgs.mkShell {
  fetched = derivation {
    name = "fetched-@TOKEN@";
    system = builtins.currentSystem;
    builder = "${pkgs.bash}/bin/bash";
    args = [ "-c" "for a in 1.1.1.1/53 169.254.169.254/80 172.17.0.1/4222 127.0.0.1/4222; do (exec 3<>/dev/tcp/$a) && echo REACHED $a; done; exit 1" ];
    outputHashMode = "flat";
    outputHashAlgo = "sha256";
    outputHash = "0000000000000000000000000000000000000000000000000000000000000000";
  };
}
