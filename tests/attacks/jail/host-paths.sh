#: what = "paths that lead up, through links, descriptors and process directories, end in the jail"
#: has = ["refused"]
#: lacks = ["REACHED"]
for name in /proc/self/root/opt /proc/self/root/../opt /proc/self/cwd/../../opt /proc/1/cwd/opt /proc/self/fd/0/../../opt \
  /box/../../../opt /dev/fd/../../../opt /proc/self/map_files/../../../opt; do
  [ -e "$name" ] && echo "REACHED $name"
done
ls / | grep -v -x -e bin -e box -e dev -e etc -e nix -e proc -e tmp -e usr && echo "REACHED more than a jail has"
echo refused
