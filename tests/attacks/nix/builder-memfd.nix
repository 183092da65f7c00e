#: what = "memory in files that are nowhere, by a builder"
#: outcome = ["DEPENDENCY_ERROR"]
#: dependencies = ["MLE"]
#: lacks = ["REACHED"]
#: limits.dependencies.memory_bytes = 268435456
{ pkgs ? import <nixpkgs> { } }:
pkgs.mkShell {
  kept = pkgs.runCommand "memfd-@TOKEN@" { } ''
    ${pkgs.python3}/bin/python3 -c 'import os
    file = os.memfd_create("kept")
    for _ in range(1000): os.write(file, bytes(1 << 20))
    print("REACHED")'
    touch $out
  '';
}
