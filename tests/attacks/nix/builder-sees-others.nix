#: what = "a builder that looks for other processes, and ends all it can"
#: then = "cat $tried"
#: has = ["looked"]
#: lacks = ["REACHED"]
{ pkgs ? import <nixpkgs> { } }:
pkgs.mkShell {
  tried = pkgs.runCommand "others-@TOKEN@" { } ''
    {
      kill -STOP 1 2> /dev/null || true
      for name in /proc/[0-9]*; do
        case $(tr '\\0' ' ' < $name/cmdline 2> /dev/null) in *daemon* | *init* | *cutor*) echo "REACHED $name" ;; esac
      done
      echo looked
    } > $out
  '';
}
