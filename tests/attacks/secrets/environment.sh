#: what = "no variable and no descriptor of cutor's, of the container's or of the host's"
#: has = ["looked"]
#: lacks = ["CUTOR_", "NATS", "DOCKER", "XDG_", "MALLOC_", "REACHED"]
export -p
cat /proc/*/environ 2> /dev/null | tr '\0' '\n'
for descriptor in /proc/self/fd/*; do
  [ "${descriptor##*/}" = 255 ] && continue # where bash itself reads this script
  [ "${descriptor##*/}" -gt 2 ] && [ -e "$descriptor" ] && echo "REACHED $descriptor"
done
echo looked
