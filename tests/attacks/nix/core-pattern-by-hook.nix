#: what = "a hook that writes core_pattern and sysrq-trigger"
#: then = "echo $ANSWER"
#: has = ["refused"]
#: lacks = ["REACHED"]
{ pkgs ? import <nixpkgs> { } }:
pkgs.mkShell {
  shellHook = ''
    for name in /proc/sys/kernel/core_pattern /proc/sys/kernel/modprobe /proc/sysrq-trigger; do
      (echo '|/bin/false' > $name) 2> /dev/null && echo "REACHED $name"
    done
    export ANSWER=refused
  '';
}
