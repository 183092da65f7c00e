#: what = "a builder that fills the disk of the store with files that never had a name"
#: outcome = ["DEPENDENCY_ERROR"]
#: dependencies = ["FSE"]
#: says = ["to the store (nix.store_bytes)"]
#: limits.dependencies.wall_time_ms = 60000
{ pkgs ? import <nixpkgs> { } }:
pkgs.mkShell {
  filled = pkgs.runCommand "nameless-@TOKEN@" { } ''
    ${pkgs.python3}/bin/python3 -c 'import os, time
    files = [os.open("/tmp", os.O_TMPFILE | os.O_RDWR) for _ in range(80)]
    for file in files: os.write(file, bytes(20 << 20))
    time.sleep(60)'
    touch $out
  '';
}
