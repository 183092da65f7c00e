#: what = "a builder that kills everything it may: that is its own child alone"
#: then = "cat $tried"
#: has = ["killed 137"]
{ pkgs ? import <nixpkgs> { } }:
pkgs.mkShell {
  tried = pkgs.runCommand "kill-@TOKEN@" { } ''
    sleep 100 &
    kill -KILL -1
    wait $! || echo "killed $?" > $out
  '';
}
