#: what = "nothing can be written but box, /tmp, /dev/shm and the null devices"
#: has = ["refused"]
#: lacks = ["REACHED"]
for name in / /bin /etc /usr /usr/bin /nix /dev /proc; do
  echo x 2> /dev/null > "$name/planted" && echo "REACHED $name/planted"
done
for name in /etc/passwd /etc/group /etc/hosts /bin/sh /usr/bin/env; do
  echo x 2> /dev/null > "$name" && echo "REACHED $name"
  rm -f "$name" 2> /dev/null && echo "REACHED rm $name"
done
rm -f /dev/null 2> /dev/null
[ -c /dev/null ] || echo "REACHED /dev/null"
chmod 600 /dev/null 2> /dev/null && echo "REACHED the mode of /dev/null"
echo refused
