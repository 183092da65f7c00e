#: what = "a derivation whose output pretends to be a path that others use"
#: has = ["built", "42"]
#: then = "cat $tried; [ -e ${PATH%%/bin*}/planted ] && echo REACHED; python3 -c 'print(6 * 7)'"
#: lacks = ["REACHED"]
{ pkgs ? import <nixpkgs> { } }:
let
  python = builtins.unsafeDiscardStringContext "${pkgs.python3}";
in
pkgs.mkShell {
  packages = [ pkgs.python3 ];
  tried = derivation {
    name = "pretends-@TOKEN@";
    system = builtins.currentSystem;
    builder = "${pkgs.bash}/bin/bash";
    out = python;
    args = [ "-c" "echo planted > ${python}/planted; echo planted > ${python}; echo built > $out" ];
  };
}
