# The packages themselves, under the names nixpkgs has for them.
self:
let
  inherit (self) lib fromDebian runtime triple dynamicLoader debianVersions;

  # Programs that need nothing but unpacking.
  plain = pname: fromDebian { inherit pname; };

  # Static, so that it starts fast and a hook that sets LD_LIBRARY_PATH can't break the shell itself.
  bash = fromDebian {
    pname = "bash";
    patch = false;
    finish = ''
      mv $out/bin/bash-static $out/bin/bash
      ln -s bash $out/bin/sh
    '';
  } // { shellPath = "/bin/bash"; };

  # Compiled modules keep no time stamps, so that they stay valid in the store, where every file is from 1970.
  python311 = fromDebian {
    pname = "python3";
    finish = ''
      ln -sf python3.11 $out/bin/python3
      ln -sf python3 $out/bin/python
      PYTHONHASHSEED=0 $out/bin/python3 -m compileall -q -f -j 0 --invalidation-mode unchecked-hash $out/lib/python3.11
    '';
  } // {
    pythonVersion = "3.11";
    # The set has no third-party modules: a shell that asks for one fails by its name.
    withPackages = choose: builtins.deepSeq (choose { }) python311;
    pkgs = { };
  };

  # A specs file beside cc1 gives every gcc and g++ the store's headers, loader and libraries: no wrapper.
  gcc = fromDebian {
    pname = "gcc";
    inherit dynamicLoader;
    finish = builtins.readFile ./gcc.sh;
  } // { isGNU = true; cc = gcc; };

  # Debian's node reads parts of its library from /usr/share/nodejs, which no jail has; a shim moves that path.
  nodejs = fromDebian {
    pname = "nodejs";
    inherit gcc;
    shim = ./node-shim.c;
    finish = ''
      ln -sf node $out/bin/nodejs
      $gcc/bin/gcc -O2 -Wall -Werror -shared -fPIC -s -DHERE="\"$out\"" -o $out/lib/$triple/libnode-shim.so $shim
      patchelf --set-rpath $runtime/lib/$triple $out/lib/$triple/libnode-shim.so  # gcc's own would make node depend on gcc
      patchelf --add-needed libnode-shim.so $out/bin/node
    '';
  };

  lua5_4 = fromDebian {
    pname = "lua";
    finish = ''
      ln -sf lua5.4 $out/bin/lua
      ln -sf luac5.4 $out/bin/luac
    '';
  };
in
{
  inherit bash gcc nodejs lua5_4 python311;
  bashInteractive = bash;
  bashNonInteractive = bash;

  coreutils = plain "coreutils";
  diffutils = plain "diffutils";
  findutils = plain "findutils";
  gawk = fromDebian { pname = "gawk"; finish = "ln -s gawk $out/bin/awk"; };
  gnugrep = plain "gnugrep";
  gnumake = plain "gnumake";
  gnused = plain "gnused";
  gnutar = plain "gnutar";
  gzip = plain "gzip";

  python3 = python311;
  python311Packages = python311.pkgs;
  python3Packages = python311.pkgs;
  gcc12 = gcc;
  lua = lua5_4;
  nodejs_18 = nodejs;
}
