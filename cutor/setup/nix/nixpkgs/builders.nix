# nixpkgs' small helpers for files and scripts.
self:
let
  inherit (self) lib stdenv bash;

  runCommand = name: environment: buildCommand:
    stdenv.mkDerivation ({ inherit name buildCommand; preferLocalBuild = true; } // environment);

  # By passAsFile, since a text may be larger than one environment variable can be (128 KiB).
  writeTextFile = { name, text, executable ? false, destination ? "" }: runCommand name
    { inherit text destination; mode = if executable then "755" else "644"; passAsFile = [ "text" ]; }
    ''
      mkdir -p "$(dirname "$out$destination")"
      install -m "$mode" "$textPath" "$out$destination"
    '';

  script = text: "#!${bash}/bin/bash\n${text}";
in
rec {
  inherit runCommand writeTextFile;
  runCommandLocal = runCommand;
  runCommandCC = name: environment:
    runCommand name (environment // { nativeBuildInputs = [ self.gcc ] ++ environment.nativeBuildInputs or [ ]; });

  writeText = name: text: writeTextFile { inherit name text; };
  writeScript = name: text: writeTextFile { inherit name text; executable = true; };
  writeScriptBin = name: text: writeTextFile { inherit name text; executable = true; destination = "/bin/${name}"; };
  writeShellScript = name: text: writeScript name (script text);
  writeShellScriptBin = name: text: writeScriptBin name (script text);
  writeShellApplication = { name, text, runtimeInputs ? [ ], ... }: writeShellScriptBin name ''
    set -euo pipefail
    export PATH="${lib.makeBinPath runtimeInputs}:$PATH"
    ${text}
  '';

  symlinkJoin = { name, paths, ... }: runCommand name { inherit paths; } ''
    mkdir -p "$out"
    for path in $paths; do cp -rsn --no-preserve=mode "$path/." "$out/"; done
  '';
  buildEnv = symlinkJoin;
}
