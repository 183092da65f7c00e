#: what = "a builder that fills the disk of the store, with files that are small enough, beside its output and in it"
#: outcome = ["DEPENDENCY_ERROR"]
#: dependencies = ["FSE"]
#: says = ["to the store (nix.store_bytes)"]
#: limits.dependencies.wall_time_ms = 60000
{ pkgs ? import <nixpkgs> { } }:
pkgs.mkShell {
  filled = pkgs.runCommand "fills-@TOKEN@" { } ''
    mkdir $out
    for n in $(seq 40); do head -c 20M /dev/zero > /tmp/$n; head -c 20M /dev/zero > $out/$n; done
    sleep 60
  '';
}
