#: what = "no credential, no socket of Docker's or Nix's, no file of the host or the image"
#: has = ["looked"]
#: lacks = ["REACHED"]
for name in /var/run/docker.sock /run/docker.sock /nix/var /nix/var/nix/daemon-socket/socket /run /run/cutor /root /home \
  /var /opt /opt/cutor /opt/nsjail /packages /etc/shadow /etc/ssl /etc/nix /etc/resolv.conf /sys /usr/lib /lib /lib64 /bin/bash \
  /dev/mem /dev/kmsg /dev/sda /dev/vda /dev/tty /dev/pts /dev/fuse /dev/net/tun /dev/kvm /dev/mqueue /proc/1/root/box \
  /.dockerenv /nix/store/.links; do
  ls "$name" > /dev/null 2>&1 && echo "REACHED $name"
done
for name in "$HOME/.ssh" "$HOME/.local" "$HOME/.config" "$HOME/.docker" ~root; do
  [ -e "$name" ] && echo "REACHED $name"
done
ls /nix/store > /dev/null 2>&1 && echo "REACHED the list of the store"
echo looked
