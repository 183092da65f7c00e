#: what = "a hook that floods its output"
#: outcome = ["DEPENDENCY_ERROR"]
#: dependencies = ["OLE"]
#: limits.dependencies.stdout_bytes = 50000
{ pkgs ? import <nixpkgs> { } }:
pkgs.mkShell {
  shellHook = ''
    yes flood
  '';
}
