#: what = "a cancel in the middle of a hook that waits"
#: cancel = "leased builder"
#: after_ms = 3000
#: outcome = ["CANCELLED"]
#: dependencies = ["CANCELLED"]
{ pkgs ? import <nixpkgs> { } }:
pkgs.mkShell {
  shellHook = "sleep 50 & wait";
}
