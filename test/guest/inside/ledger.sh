#!/bin/sh
# SPDX-License-Identifier: MIT
# Writes 1, 2, 3 … to both disks, first to the data disk; each number is durable there before it goes to the root disk, and
# there before it is called acknowledged. So a state of both disks at one moment has as many on the data disk, or one more,
# and everything that was acknowledged before. Goes on where it stood.
number=$(tail -n 1 /var/ledger 2>/dev/null)
cp /var/ledger /data/ledger 2>/dev/null
while :; do
  number=$((number + 1))
  echo "$number" >>/data/ledger && sync -d /data/ledger || break
  echo "$number" >>/var/ledger && sync -d /var/ledger || break
  echo "$number" >/run/new && mv /run/new /run/acknowledged
done
echo "failed at $number" >/run/ledger-failed
