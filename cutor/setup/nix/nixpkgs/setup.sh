# Sourced at the start of every build, by nix-shell, and by nix print-dev-env. The lines above this one, written by
# stdenv.nix, set initialPath and SHELL.
export SHELL
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-1}

_cutor_path=
_cutor_seen=

# Put a package's programs on the path, run its hook, then do the same for what it propagates.
_cutor_add_input() {
  local package=$1 further=
  case " $_cutor_seen " in *" $package "*) return ;; esac
  _cutor_seen+=" $package"
  if [ -d "$package/bin" ]; then _cutor_path+=${_cutor_path:+:}$package/bin; fi
  if [ -f "$package/nix-support/setup-hook" ]; then source "$package/nix-support/setup-hook"; fi
  if [ -f "$package/nix-support/propagated-build-inputs" ]; then
    read -r further < "$package/nix-support/propagated-build-inputs" || true
    for package in $further; do _cutor_add_input "$package"; done
  fi
}

for _cutor_input in ${nativeBuildInputs-} ${buildInputs-} ${propagatedBuildInputs-} $initialPath; do
  _cutor_add_input "$_cutor_input"
done
export PATH=$_cutor_path
unset _cutor_path _cutor_seen _cutor_input

# Run the function or the text in variable NAME, if there is either.
runHook() {
  local name=$1
  if declare -F "$name" > /dev/null; then "$name"; else eval "${!name-}"; fi
}
