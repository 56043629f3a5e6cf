#!/bin/sh
# SPDX-License-Identifier: MIT
# The init of the initial file system in memory: loads drivers, finds the root disk by its label, and goes there.
export PATH=/bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
while read -r module; do insmod "/modules/$module" || echo "no $module"; done </modules/order
for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
  root=$(findfs LABEL=vmar-root 2>/dev/null) && break
  sleep 0.2
done
mount -t ext4 "$root" /root || exec sh
for one in dev proc sys; do mount --move "/$one" "/root/$one"; done
exec switch_root /root /sbin/init
