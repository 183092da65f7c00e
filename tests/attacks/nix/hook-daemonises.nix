#: what = "a hook that leaves a daemon"
#: then = "echo $LEFT; grep -e sleep -e python /proc/[0-9]*/comm; true"
#: has = ["left two"]
#: lacks = ["comm:"]
{ pkgs ? import <nixpkgs> { } }:
pkgs.mkShell {
  packages = [ pkgs.python3 ];
  shellHook = ''
    (sleep 100 &)
    python3 -c 'import os, time; os.fork() == 0 and (os.setsid(), time.sleep(100))' < /dev/null > /dev/null 2>&1
    export LEFT="left $([ $? = 0 ] && echo two)"
  '';
}
