# Builder of mkDerivation: `buildCommand` alone where it is given, else the usual phases.
source "$stdenv/setup"
cd "$NIX_BUILD_TOP"

unpackPhase_default() {
  [ -n "${src-}" ] || return 0
  if [ -d "$src" ]; then cp -r "$src" source && chmod -R u+w source && cd source
  else tar -xf "$src" && cd */
  fi
}
patchPhase_default() { local file; for file in ${patches-}; do patch -p1 < "$file"; done; }
configurePhase_default() { if [ -x ./configure ]; then ./configure --prefix="$out" ${configureFlags-}; fi; }
buildPhase_default() { if [ -e Makefile ]; then make ${makeFlags-}; fi; }
checkPhase_default() { :; }
installPhase_default() { if [ -e Makefile ]; then make install prefix="$out" PREFIX="$out" ${makeFlags-}; fi; }
fixupPhase_default() { :; }

runPhase() {
  local text=${!1-}
  if [ -n "$text" ]; then eval "$text"; else "$1_default"; fi
}

if [ -n "${buildCommand-}" ]; then
  eval "$buildCommand"
else
  for phase in ${phases-unpackPhase patchPhase configurePhase buildPhase checkPhase installPhase fixupPhase}; do
    runPhase "$phase"
  done
fi

if [ -n "${propagatedBuildInputs-}" ] && [ -d "$out" ]; then
  mkdir -p "$out/nix-support"
  echo "$propagatedBuildInputs" > "$out/nix-support/propagated-build-inputs"
fi
