#: what = "a builder that writes core_pattern and sysrq-trigger"
#: then = "cat $tried"
#: has = ["refused"]
#: lacks = ["REACHED"]
{ pkgs ? import <nixpkgs> { } }:
pkgs.mkShell {
  tried = pkgs.runCommand "settings-@TOKEN@" { } ''
    exec 2> /dev/null
    {
      for name in /proc/sys/kernel/core_pattern /proc/sys/kernel/modprobe /proc/sysrq-trigger /proc/sys/vm/drop_caches; do
        (echo '|/bin/false' > $name) && echo "REACHED $name"
        (chmod 666 $name) && echo "REACHED chmod $name"
      done
      (mount -t proc none /tmp || unshare -r mount -t proc none /tmp) && echo "REACHED mount"
      echo refused
    } > $out
  '';
}
