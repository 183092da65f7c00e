#: what = "the longest names that there are: of a store path, of its lock and its builder's directory, of files in it"
#: then = "set -- $made/*; echo made $#"
#: has = ["made 300"]
{ pkgs ? import <nixpkgs> { } }:
let
  long = length: builtins.substring 0 length ("@TOKEN@-" + builtins.concatStringsSep "" (builtins.genList (_: "0123456789") 30));
in
pkgs.mkShell {
  made = pkgs.runCommand (long 207) { } ''
    mkdir $out
    for n in $(seq 1000 1299); do echo > "$out/''${n}${long 251}"; done
  '';
}
