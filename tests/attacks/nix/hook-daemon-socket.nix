#: what = "a hook that looks for Nix and its daemon"
#: then = "echo $ANSWER"
#: has = ["looked"]
#: lacks = ["REACHED"]
{ pkgs ? import <nixpkgs> { } }:
pkgs.mkShell {
  shellHook = ''
    for name in /run/cutor /nix/var /usr/bin/nix-store /opt/cutor/cutor /packages /etc/nix; do
      ls $name > /dev/null 2>&1 && echo "REACHED $name"
    done
    command -v nix nix-store && echo "REACHED a program of Nix"
    ls /nix/store > /dev/null 2>&1 && echo "REACHED the list of the store"
    (exec 3<>/dev/tcp/1.1.1.1/53) 2> /dev/null && echo "REACHED network"
    export ANSWER=looked
  '';
}
