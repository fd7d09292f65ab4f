#!/bin/sh
# A machine of its own under this one's systemd: PID 1 of fresh namespaces, its root a layer in memory
# over this machine's /, its network loopback alone. It can neither set the clock nor load a module nor
# write /proc/sys, and it starts no unit of this machine but the journal.
#
#   systemd_machine.sh FOLDER [LAYER]
#
# FOLDER/cgroups: its cgroups, made by the caller, a line each: kind, option of the mount, folder, place.
# FOLDER/init is written: its PID 1 as seen from here.
# LAYER: a folder whose files take the place of those of /, with another version of systemd.
set -eu
folder=$1 layer=${2-}

if [ "${FLOE_MACHINE-}" != inside ]; then
  while read -r _ _ group _; do echo $$ > "$group/cgroup.procs"; done < "$folder/cgroups"
  # The cgroups that it is in now are the roots of the new namespace.
  exec env FLOE_MACHINE=inside unshare --cgroup --mount --pid --net --ipc --uts --fork \
    --kill-child=KILL sh "$0" "$@"
fi

mount --make-rprivate /
# /proc still tells ids as seen from outside.
read -r pid _ < /proc/self/stat
root=$folder/root
mkdir -p "$folder/layer"
mount -t tmpfs -o mode=755 machine "$folder/layer"
mkdir "$folder/layer/upper" "$folder/layer/work" "$root"
[ -z "$layer" ] || cp -a "$layer/." "$folder/layer/upper/"
mount -t overlay -o "lowerdir=/,upperdir=$folder/layer/upper,workdir=$folder/layer/work" machine "$root"

mount -t proc proc "$root/proc"
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,bind,ro "$root/proc/sys"
mount -t sysfs -o ro sysfs "$root/sys"
grep -q ' /sys/fs/cgroup$' "$folder/cgroups" || mount -t tmpfs -o mode=755 cgroup "$root/sys/fs/cgroup"
while read -r kind option _ place; do
  mkdir -p "$root$place"
  mount -t "$kind" -o "$option" cgroup "$root$place"
done < "$folder/cgroups"
mount -t tmpfs -o mode=755 dev "$root/dev"
mkdir "$root/dev/pts" "$root/dev/shm"
for node in null zero full random urandom tty; do cp -a "/dev/$node" "$root/dev/$node"; done
ln -s /proc/self/fd "$root/dev/fd"
mount -t devpts -o newinstance,ptmxmode=666,mode=620 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
mount -t tmpfs -o mode=1777 shm "$root/dev/shm"
mount -t tmpfs -o mode=1777 tmp "$root/tmp"
mount -t tmpfs -o mode=755 run "$root/run"

rm -rf "$root/etc/systemd" "$root/etc/fstab" "$root/var/log/journal" "$root/var/lib/floe" \
  "$root/usr/lib/systemd/system-generators" "$root"/usr/lib/systemd/system/*.target.wants
mkdir -p "$root/etc/systemd/system" "$root/usr/local/bin"
echo 5f6c6f652d7465737473206f6e6c7900 > "$root/etc/machine-id"
cat > "$root/etc/systemd/system/machine.target" <<UNIT
[Unit]
Wants=systemd-journald.service
After=systemd-journald.service
UNIT
for user in floe _statsd; do
  echo "$user:x:$((90000 + ${#user})):$((90000 + ${#user}))::/nonexistent:/usr/sbin/nologin" >> "$root/etc/passwd"
  echo "$user:x:$((90000 + ${#user})):" >> "$root/etc/group"
done

echo "$pid" > "$folder/init"
# Versions 256 and 257 want the word where this machine has the first version of cgroups.
cd "$root"
mkdir before
pivot_root . before
exec env -i container=floe-test PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
  chroot . sh -c 'umount -l /before && rmdir /before && exec setpriv \
    --bounding-set=-sys_time,-sys_module,-sys_rawio,-syslog,-wake_alarm \
    /usr/lib/systemd/systemd --unit=machine.target SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1'
