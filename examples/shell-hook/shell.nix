{ pkgs ? import <nixpkgs> { } }:
pkgs.mkShell {
  packages = [ pkgs.coreutils ];

  # Attributes of the shell become variables, as with nix-shell.
  GREETING = "hello  from an attribute";

  shellHook = ''
    export POEM="first line
      second line, indented
    last line, with a trailing space "
    export SPACED="  two spaces in front, \"quotes\", a = sign and a \$dollar  "
  '';
}
