#: what = "an output with a socket in it, and one that would be a device"
#: outcome = ["DEPENDENCY_ERROR"]
#: dependencies = ["RE"]
#: says = ["no device", "unsupported type"]
{ pkgs ? import <nixpkgs> { } }:
pkgs.mkShell {
  odd = pkgs.runCommand "socket-@TOKEN@" { } ''
    mkdir $out
    ${pkgs.python3}/bin/python3 -c 'import os, socket, stat
    os.chdir(os.environ["out"])
    try: os.mknod("kmsg", 0o666 | stat.S_IFCHR, os.makedev(1, 11))
    except PermissionError: print("no device")
    socket.socket(socket.AF_UNIX).bind("socket")'
  '';
}
