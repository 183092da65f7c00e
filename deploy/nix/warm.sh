# Builds every package of the offline set into the store volume and roots it, so that the first submission does not wait.
# Runs in a container with no network and no capability as the owner of the store. The builders are our own, so neither
# daemon nor sandbox stands between; user code never runs this way. $1: digest of the set, noted when all is built.
export HOME=/tmp NIX_REMOTE=local NIX_CONFIG='
sandbox = false
build-users-group =
substituters =
build-dir = /build
'
roots=/nix/var/nix/gcroots/cutor-packages
mkdir -p "$roots"

# The derivations are rooted too: each evaluation would otherwise copy the archives into the store again.
derivations=$(nix-instantiate --quiet --quiet /packages/nixpkgs/warm.nix)
outputs=$(nix-store --quiet --realise $derivations)
for path in $derivations $outputs; do ln -sfn "$path" "$roots/${path##*/}"; done
for link in "$roots"/*; do
  case "$derivations $outputs" in *"$(readlink "$link")"*) ;; *) rm "$link" ;; esac
done
printf %s "$1" > /nix/var/cutor-packages
