#: what = "a hook that writes the captured variables itself"
#: outcome = ["DEPENDENCY_ERROR"]
#: dependencies = ["RE"]
{ pkgs ? import <nixpkgs> { } }:
pkgs.mkShell {
  shellHook = ''
    printf 'PATH=/evil\0FORGED=yes\0' > /capture/variables; exit 0
  '';
}
