#: what = "an output with setuid bits"
#: outcome = ["OK", "DEPENDENCY_ERROR"]
#: dependencies = ["OK", "RE"]
#: then = "[ -u $tool ] && echo REACHED; [ -g $tool ] && echo REACHED; echo looked"
#: lacks = ["REACHED"]
{ pkgs ? import <nixpkgs> { } }:
pkgs.mkShell {
  tool = pkgs.runCommand "setuid-@TOKEN@" { } "cp ${pkgs.coreutils}/bin/id $out; chmod 6755 $out || true";
}
