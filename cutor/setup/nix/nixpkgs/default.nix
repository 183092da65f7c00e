# An offline stand-in for nixpkgs: the names a shell.nix uses, backed by packages of Debian's archive.
#
#   { pkgs ? import <nixpkgs> { } }: pkgs.mkShell { packages = [ pkgs.python3 ]; }
#
# It exists so that tests and the demonstration need no network. A real nixpkgs takes its place by NIX_PATH alone.
# The directories `debs` and `bootstrap` and the list `debs.json` are put beside this file at set-up.
{ system ? builtins.currentSystem
, config ? { }
, overlays ? [ ]
, ...
}:
let
  lib = import ./lib.nix;

  base = self: {
    inherit lib system config;
    pkgs = self;
    callPackage = function: arguments:
      let f = if builtins.isFunction function then function else import function;
      in f (builtins.intersectAttrs (builtins.functionArgs f) self // arguments);
  }
  // import ./debian.nix self
  // import ./packages.nix self
  // import ./stdenv.nix self
  // import ./builders.nix self;
in
lib.fix (lib.foldl' (previous: overlay: lib.extends overlay previous) base overlays)
