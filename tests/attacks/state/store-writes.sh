#: what = "programs of the environment, which others run too, can't be changed"
#: submissions = 2
#: has = ["refused"]
#: lacks = ["REACHED"]
program=$(command -v python3)
for place in "$program" "${program%/*}" "${program%/bin/*}" /nix/store /nix; do
  chmod u+w "$place" 2> /dev/null && echo "REACHED chmod $place"
  touch "$place" 2> /dev/null && echo "REACHED touch $place"
  [ -d "$place" ] && echo x 2> /dev/null > "$place/planted" && echo "REACHED $place/planted"
done
mv "$program" /tmp/ 2> /dev/null && echo "REACHED mv"
ln "$program" /tmp/hard 2> /dev/null && echo "REACHED ln"
echo refused
