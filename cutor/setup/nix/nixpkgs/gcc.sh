# Last steps of package gcc: make the compiler find everything in the store (sourced by unpack.sh).
libraries=$out/lib/$triple
internals=$(echo "$out/lib/gcc/$triple"/*)

# The alternatives that Debian's scripts would make.
ln -s gcc "$out/bin/cc"
ln -s g++ "$out/bin/c++"
for tool in as ld; do ln -s "$out/bin/$tool" "$internals/$tool"; done

# Links such as libstdc++.so expect the runtime's libraries beside them.
for library in "$runtime/lib/$triple"/*.so.*; do
  [ -e "$libraries/${library##*/}" ] || ln -s "$library" "$libraries/${library##*/}"
done

# libc.so, libm.so and libm.a are texts that name libraries by absolute paths.
for script in "$libraries"/*.{so,a}; do
  if [ ! -L "$script" ] && head -c 20 "$script" | grep -q 'GNU ld script'; then
    sed -i "s, \(/usr\)\?/lib/$triple/, $libraries/,g; s, /lib[0-9]*/ld-linux, $libraries/ld-linux,g" "$script"
  fi
done

# The libraries it brings for programs (sanitizers, libgomp) find the runtime and each other.
for library in "$libraries"/lib{asan,atomic,gomp,itm,lsan,quadmath,tsan,ubsan}.so.*; do
  if [ ! -L "$library" ]; then patchelf --set-rpath "$runtime/lib/$triple:$libraries" "$library"; fi
done

# What the driver adds to its own command lines; a specs file replaces all built-in ones, so it starts with these.
# -isysroot moves /usr/include below $out. A program finds the runtime first, then the libraries above. A later
# -dynamic-linker overrides the driver's own.
"$out/bin/gcc" -dumpspecs > built-in-specs
{ cat built-in-specs; cat <<SPECS; } > "$internals/specs"
*cpp:
+ -isysroot $out

*cc1plus:
+ -isysroot $out

*link:
+ %{!r:%{!static:%{!static-pie:-rpath $runtime/lib/$triple -rpath $libraries %{!shared:-dynamic-linker $dynamicLoader}}}}

SPECS

mkdir "$out/nix-support"
echo 'export CC=gcc CXX=g++' > "$out/nix-support/setup-hook"
