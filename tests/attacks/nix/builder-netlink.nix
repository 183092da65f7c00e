#: what = "a builder that would hold answers of netlink, which are memory that no limit counts: it has no such sockets"
#: then = "cat $tried"
#: has = ["none"]
{ pkgs ? import <nixpkgs> { } }:
pkgs.mkShell {
  tried = pkgs.runCommand "netlink-@TOKEN@" { nativeBuildInputs = [ pkgs.python3 ]; } ''
    python3 -c '
    import socket
    try:
        socket.socket(16, 3, 0)
        print("there is one")
    except OSError:
        print("none")
    ' > $out
  '';
}
