# Builder of every package from Debian's archives (see debian.nix): unpack, repair links, patch programs.
# Runs in a static bash; busybox is the only other program there is.

mkdir_tools() { (exec -a busybox "$busybox" mkdir tools); (exec -a busybox "$busybox" --install -s "$PWD/tools"); }
cd "$NIX_BUILD_TOP"
mkdir_tools
export PATH=$PWD/tools

# `usr -> .` makes /usr/bin/x and /bin/x the same file of the output, and the output a root that gcc can look headers up in.
mkdir "$out"
ln -s . "$out/usr"
for deb in $debs; do
  dpkg-deb -x "$deb" "$out"
done
chmod -R u+w "$out"
rm -rf "$out"/{etc,var,root,run} "$out"/share/{doc,man,locale,info,lintian,bug,bash-completion,menu,applications,pixmaps,gdb}

# Links that Debian means from the root of the file system: into this output, else into the runtime, else nowhere.
find "$out" -type l | while read -r link; do
  target=$(readlink "$link")
  [ "${target#/}" != "$target" ] || continue
  if [ -e "$out$target" ]; then ln -sfn "$out$target" "$link"
  elif [ -n "$runtime" ] && [ -e "$runtime$target" ]; then ln -sfn "$runtime$target" "$link"
  else rm "$link"
  fi
done

home=${runtime:-$out}
mkdir patchelf
for deb in $patchelf; do dpkg-deb -x "$deb" patchelf; done
patchelf() { "$home/$loader" --library-path "$home/lib/$triple" "$NIX_BUILD_TOP/patchelf/usr/bin/patchelf" "$@"; }

# The older RPATH, not RUNPATH: it also serves the libraries that a program loads, so these need no patch.
patch_programs() {
  local program
  find "$out" -type f -perm /111 | while read -r program; do
    patchelf --print-interpreter "$program" >/dev/null 2>&1 || continue
    patchelf --set-interpreter "$home/$loader" --force-rpath --set-rpath "$out/lib/$triple:$home/lib/$triple" "$program"
  done
}
if [ -n "$patch" ]; then patch_programs; fi

eval "$finish"
