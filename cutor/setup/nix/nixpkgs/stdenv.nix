# mkDerivation and mkShell: what `nix-build`, `nix-shell` and `nix print-dev-env` need of a standard environment.
self:
let
  inherit (self) lib system;

  # What every build and every shell has on PATH, as in nixpkgs but for the C compiler: name gcc to get it.
  initialPath = with self; [ coreutils findutils diffutils gnused gnugrep gawk gnutar gzip gnumake bash ];

  stdenv = builtins.derivation {
    name = "stdenv-offline";
    inherit system initialPath;
    builder = self.staticBash;
    busybox = self.staticBusybox;
    setup = ./setup.sh;
    shell = "${self.bash}/bin/bash";
    args = [
      "-euc"
      ''
        (exec -a busybox "$busybox" mkdir "$out")
        { printf 'initialPath=%q\nSHELL=%q\n' "$initialPath" "$shell"; while IFS= read -r line; do printf '%s\n' "$line"; done < "$setup"; } > "$out/setup"
      ''
    ];
    preferLocalBuild = true;
    allowSubstitutes = false;
  } // { inherit mkDerivation initialPath; shell = "${self.bash}/bin/bash"; hostPlatform = { inherit system; isLinux = true; }; };

  # Arguments may be a function of the final attributes, and are overridden as such.
  toFunction = x: if builtins.isFunction x then x else _: x;
  changed = change: final: previous:
    let result = toFunction change previous;
    in if builtins.isFunction result then change final previous else result;
  mkDerivation = arguments:
    make (lib.fix (toFunction arguments)) // {
      overrideAttrs = change: mkDerivation (lib.extends (changed change) (toFunction arguments));
    };

  # Attributes become environment variables of the build; `meta` and `passthru` never do.
  make = attributes: builtins.derivation (
    {
      buildInputs = [ ];
      nativeBuildInputs = [ ];
      propagatedBuildInputs = [ ];
      outputs = [ "out" ];
    }
    // removeAttrs attributes [ "meta" "passthru" ]
    // {
      name = attributes.name or "${attributes.pname}-${attributes.version or "0"}";
      inherit system stdenv;
      builder = attributes.builder or "${self.bash}/bin/bash";
      args = attributes.args or [ "-e" ./build.sh ];
    })
  // { meta = attributes.meta or { }; }
  // attributes.passthru or { };

  # The same merging as nixpkgs: inputs of `inputsFrom` are added unless they are among them, its hooks run first.
  mkShell =
    { name ? "nix-shell"
    , packages ? [ ]
    , inputsFrom ? [ ]
    , buildInputs ? [ ]
    , nativeBuildInputs ? [ ]
    , propagatedBuildInputs ? [ ]
    , ...
    }@attributes:
    let
      inherited = key: own: own ++ lib.subtractLists inputsFrom (lib.flatten (lib.catAttrs key inputsFrom));
    in
    mkDerivation (removeAttrs attributes [ "packages" "inputsFrom" ] // {
      inherit name;
      buildInputs = inherited "buildInputs" buildInputs;
      nativeBuildInputs = packages ++ inherited "nativeBuildInputs" nativeBuildInputs;
      propagatedBuildInputs = inherited "propagatedBuildInputs" propagatedBuildInputs;
      shellHook = lib.concatStringsSep "\n" (lib.catAttrs "shellHook" (lib.reverseList inputsFrom ++ [ attributes ]));
      buildCommand = attributes.buildCommand or "export > $out";
      preferLocalBuild = true;
      allowSubstitutes = false;
    });
in
{
  inherit stdenv mkShell;
  stdenvNoCC = stdenv;
  mkShellNoCC = mkShell;
}
