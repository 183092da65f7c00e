# How archives of Debian become store paths.
#
# Each package is one derivation that unpacks the archives of its whole closure into one tree. Programs are then patched
# to start by the store's own loader and to find libraries in the store, so that they run in a jail that holds nothing
# but /nix/store. Patching beats a wrapper script: no shell to start (1–2 ms a call), and a program that looks for its
# own file (Python's sys.executable, gcc's search for cc1) finds it.
self:
let
  inherit (self) lib system;

  # What Debian calls this kind of machine, and where its dynamic loader lives.
  platform = {
    x86_64-linux = { triple = "x86_64-linux-gnu"; loader = "ld-linux-x86-64.so.2"; };
    aarch64-linux = { triple = "aarch64-linux-gnu"; loader = "ld-linux-aarch64.so.1"; };
  }.${system} or (throw "the offline package set does not know the system ${system}");
  inherit (platform) triple;

  debs = lib.importJSON ./debs.json;
  bootstrap = lib.importJSON ./bootstrap.json;

  # With its digest given, a file that the store already holds is neither read nor copied again at each evaluation.
  archive = { file, sha256, ... }: builtins.path {
    name = file;
    path = ./debs + "/${file}";
    recursive = false;
    inherit sha256;
  };

  # Programs that need nothing else: they run the builders. `recursive` keeps the executable bit.
  program = name: builtins.path {
    name = "${name}-static";
    path = ./bootstrap + "/${name}";
    recursive = true;
    sha256 = bootstrap.${name};
  };
  bash = program "bash";
  busybox = program "busybox";

  fromDebian = { pname, version ? debs.${pname}.version, finish ? "", patch ? true, ... }@arguments:
    builtins.derivation ({
      name = "${pname}-${version}";
      inherit pname version system triple busybox finish;
      builder = bash;
      args = [ "-eu" ./unpack.sh ];
      debs = map archive debs.${pname}.archives;
      patchelf = map archive debs.patchelf.archives;
      runtime = lib.optionalString (pname != "runtime") runtime;
      loader = "lib/${triple}/${platform.loader}";
      patch = lib.optionalString patch "yes";
      preferLocalBuild = true;
      allowSubstitutes = false;
    } // removeAttrs arguments [ "pname" "version" "finish" "patch" ])
    // { meta.mainProgram = pname; };

  # libc with its loader, libstdc++, libgcc: shared by all packages and by the programs that their compiler links.
  # Programs find it by a path of their own; its libraries find each other beside themselves.
  runtime = fromDebian {
    pname = "runtime";
    patch = false;
    # To a new file each: patchelf itself runs by these very libraries.
    finish = ''
      for library in $out/lib/$triple/lib{stdc++,gcc_s,m,mvec}.so.*; do
        if [ ! -L $library ]; then
          patchelf --set-rpath '$ORIGIN' --output patched $library
          mv patched $library
        fi
      done
    '';
  };
in
{
  inherit runtime fromDebian triple;
  debianVersions = lib.mapAttrs (_: package: package.version) debs;
  staticBash = bash;
  staticBusybox = busybox;
  dynamicLoader = "${runtime}/lib/${triple}/${platform.loader}";
}
