#!/bin/sh
# SPDX-License-Identifier: MIT
# Installs the plugin on a Proxmox VE host: install.sh [--remove]. DESTDIR is for packages and tests.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
perl_dir=${DESTDIR:-}/usr/share/perl5
files="PVE/Storage/Custom/VmarPlugin.pm PVE/BackupProvider/Plugin/Vmar.pm Vmar/Program.pm Vmar/Record.pm Vmar/Server.pm Vmar/Volume.pm"

fail() {
    echo "install.sh: $1" >&2
    exit 1
}

restart() {
    [ -z "${DESTDIR:-}" ] || return 0
    systemctl try-reload-or-restart pvedaemon pveproxy pvestatd pvescheduler
}

case "${1:-}" in
--remove)
    for file in $files; do rm -f "$perl_dir/$file"; done
    rmdir "$perl_dir/Vmar" 2>/dev/null || true
    restart
    echo "removed; storages of type vmar in /etc/pve/storage.cfg are ignored from now on"
    exit 0
    ;;
'') ;;
*) fail "usage: install.sh [--remove]" ;;
esac

if [ -z "${DESTDIR:-}" ]; then
    [ "$(id -u)" = 0 ] || fail "run this as root"
    [ -e "$perl_dir/PVE/BackupProvider/Plugin/Base.pm" ] ||
        fail "this Proxmox VE has no backup providers: 8.4 is the first with them"
    command -v vmar >/dev/null || echo "install.sh: warning: there is no vmar in PATH yet: see README.md" >&2
fi
for file in $files; do
    mkdir -p "$(dirname "$perl_dir/$file")"
    # In one step, since daemons may load it at any moment.
    cp "$here/$file" "$perl_dir/$file.new"
    chmod 0644 "$perl_dir/$file.new"
    mv "$perl_dir/$file.new" "$perl_dir/$file"
done
restart
echo "installed; add a storage with: pvesm add vmar NAME --path /DATASTORE --content backup"
