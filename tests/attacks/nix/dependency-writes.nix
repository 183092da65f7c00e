#: what = "a builder that changes what it depends on, and the store of all"
#: then = "cat $tried"
#: has = ["refused"]
#: lacks = ["REACHED"]
{ pkgs ? import <nixpkgs> { } }:
pkgs.mkShell {
  tried = pkgs.runCommand "dependency-@TOKEN@" { program = "${pkgs.python3}"; } ''
    exec 2> /dev/null
    {
      for name in $program $program/bin $program/bin/python3 /nix/store/.links; do
        chmod u+w $name && echo "REACHED chmod $name"
        touch $name/planted && echo "REACHED $name/planted"
      done
      (echo x > $program/bin/python3) && echo "REACHED python3"
      mv $program/bin/python3 $program/bin/python4 && echo "REACHED mv"
      ls /nix/var/nix /run/cutor /opt/cutor/cutor /packages && echo "REACHED cutor's own"
      (exec 3<>/dev/tcp/1.1.1.1/53) && echo "REACHED network"
      echo refused
    } > $out
  '';
}
