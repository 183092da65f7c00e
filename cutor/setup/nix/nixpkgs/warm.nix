# What set-up builds ahead of the first submission: every package of the set, and what a shell needs besides.
let pkgs = import ./. { };
in {
  inherit (pkgs) runtime stdenv bash coreutils diffutils findutils gawk gnugrep gnumake gnused gnutar gzip;
  inherit (pkgs) python3 gcc lua nodejs;
}
