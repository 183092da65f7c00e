#: what = "an output with setuid bits"
#: then = "[ -u $tool ] && echo REACHED; [ -g $tool ] && echo REACHED; cat $tool"
#: has = ["tried"]
#: lacks = ["REACHED"]
{ pkgs ? import <nixpkgs> { } }:
pkgs.mkShell {
  tool = pkgs.runCommand "setuid-@TOKEN@" { } "echo echo tried > $out; chmod 6755 $out || true";
}
