#: what = "a hook that leaves a daemon"
#: then = "echo ran; cat /proc/[0-9]*/comm"
#: has = ["ran"]
#: lacks = ["sleep"]
{ pkgs ? import <nixpkgs> { } }:
pkgs.mkShell {
  shellHook = ''
    setsid sleep 100 < /dev/null > /dev/null 2>&1 & (sleep 100 &)
  '';
}
