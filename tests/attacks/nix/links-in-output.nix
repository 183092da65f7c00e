#: what = "an output that is a link to files of the host, and names that lead up"
#: outcome = ["RUN_ERROR"]
#: dependencies = ["OK"]
#: then = "cat $linked/shadow; ls $linked/root/ $linked/up/"
#: run = ["RE"]
#: lacks = ["root:", "jail-init\n"]
{ pkgs ? import <nixpkgs> { } }:
pkgs.mkShell {
  linked = pkgs.runCommand "linked-@TOKEN@" { } ''
    mkdir -p $out/bin
    ln -s /etc/shadow $out/shadow
    ln -s /proc/1/root $out/root
    ln -s ../../../../opt/cutor $out/up
    ln -s /usr/bin/python3 $out/bin/env
  '';
  shellHook = "export PATH=$linked/bin:$PATH; cat $linked/shadow $linked/root/etc/shadow $linked/up/bin/jail-init";
}
