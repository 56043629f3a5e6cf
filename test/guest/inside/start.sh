#!/bin/sh
# SPDX-License-Identifier: MIT
# What the guest's init runs first. /dev, /proc and /sys are there already.
export PATH=/usr/sbin:/usr/bin
mount -t tmpfs run /run
mount -t tmpfs tmp /tmp
hostname -F /etc/hostname
mount -t ext4 "$(findfs LABEL=vmar-data)" /data || echo 'no data disk'
# Without udev nobody makes links by the ports' names.
for port in /sys/class/virtio-ports/*; do
  [ "$(cat "$port/name")" = org.qemu.guest_agent.0 ] || continue
  qemu-ga --daemonize --method=virtio-serial --path="/dev/${port##*/}" --statedir=/run --pidfile=/run/qemu-ga.pid
done
