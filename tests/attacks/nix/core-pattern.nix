#: what = "a builder that writes core_pattern and sysrq-trigger"
#: then = "cat $tried"
#: has = ["mounts tried", "refused"]
#: lacks = ["REACHED"]
{ pkgs ? import <nixpkgs> { } }:
pkgs.mkShell {
  tried = pkgs.runCommand "settings-@TOKEN@" { nativeBuildInputs = [ pkgs.python3 ]; } ''
    exec 2> /dev/null
    {
      for name in /proc/sys/kernel/core_pattern /proc/sys/kernel/modprobe /proc/sysrq-trigger /proc/sys/vm/drop_caches; do
        (echo '|/bin/false' > $name) && echo "REACHED $name"
        (chmod 666 $name) && echo "REACHED chmod $name"
      done
      python3 -c '
    import ctypes
    libc = ctypes.CDLL(None)
    users_and_mounts = 0x10020000
    if libc.mount(b"none", b"/tmp", b"proc", 0, None) == 0:
        print("REACHED mount")
    if libc.unshare(users_and_mounts) == 0 and libc.mount(b"none", b"/tmp", b"proc", 0, None) == 0:
        print("REACHED mount in namespaces")
    print("mounts tried")
    '
      echo refused
    } > $out
  '';
}
