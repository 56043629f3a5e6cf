#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Makes two Debian packages of what `npm run build` has built: vmar (the programs, with the npm packages that they load) and
# vmar-proxmox (the plugin for Proxmox VE 8.4 and later).
# usage: scripts/make-deb.sh [DIRECTORY]   the packages go there (default: dist/deb); their names are printed
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { echo "make-deb: $*" >&2; }
die() {
  say "$@"
  exit 1
}

[ -e dist/bundle/cli/vmar.js ] || die "there is nothing built: npm run build"
type -P dpkg-deb >/dev/null || die "dpkg-deb is missing: this needs a Debian system"

target=${1:-dist/deb}
version=$(node -p 'require("./package.json").version')
maintainer=${DEB_MAINTAINER:-vmar <root@localhost>}
architecture=$(dpkg --print-architecture)
work=$(mktemp -d "${TMPDIR:-/tmp}/vmar-deb-XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir -p "$target"

# package_of NAME ARCHITECTURE DEPENDS RECOMMENDS DESCRIPTION: writes the control file, and makes the package.
package_of() {
  local root=$work/$1 file=$target/$1_${version}_$2.deb
  mkdir -p "$root/DEBIAN"
  {
    echo "Package: $1"
    echo "Version: $version"
    echo "Architecture: $2"
    echo "Maintainer: $maintainer"
    echo "Section: admin"
    echo "Priority: optional"
    echo "Installed-Size: $(du -sk --exclude=DEBIAN "$root" | cut -f1)"
    echo "Depends: $3"
    [ -z "$4" ] || echo "Recommends: $4"
    echo "Description: $5"
  } >"$root/DEBIAN/control"
  chmod -R u+rwX,go=rX "$root"
  dpkg-deb --root-owner-group -Zgzip --build "$root" "$file" >/dev/null
  echo "$file"
}

documentation() {
  mkdir -p "$work/$1/usr/share/doc/$1"
  cp LICENSE "$work/$1/usr/share/doc/$1/copyright"
  cp "$2" "$work/$1/usr/share/doc/$1/README.md"
  gzip -9n <CHANGELOG.md >"$work/$1/usr/share/doc/$1/changelog.gz"
}

programs() {
  local home=$work/vmar/usr/lib/vmar
  mkdir -p "$home/dist" "$work/vmar/usr/bin"
  cp -r dist/bundle "$home/dist/"
  cp package.json "$home/"
  node scripts/runtime-packages.mjs node_modules "$home/node_modules"
  for name in vmar vma-restore; do ln -s "../lib/vmar/dist/bundle/cli/$name.js" "$work/vmar/usr/bin/$name"; done
  documentation vmar README.md
  cp --parents docs/*.md formats/*/SPEC.md formats/vmar/vmar.proto plugins/*/README.md "$work/vmar/usr/share/doc/vmar/"
  package_of vmar "$architecture" 'nodejs (>= 20.19), libc6 (>= 2.34), libgcc-s1, libstdc++6' 'qemu-utils, lzop' \
    "deduplicated, verifiable backups of virtual machines
 Backs up the disks of virtual machines on QEMU/KVM and Proxmox hosts into a
 deduplicated, compressed datastore, verifies every stored byte, and restores,
 also while the guest already runs. Reads and writes Proxmox's .vma files."
}

# Proxmox's daemons load plugins when they start.
plugin() {
  local root=$work/vmar-proxmox
  DESTDIR=$root plugins/proxmox/install.sh >/dev/null
  documentation vmar-proxmox plugins/proxmox/README.md
  mkdir -p "$root/DEBIAN"
  cat >"$root/DEBIAN/postinst" <<'SCRIPT'
#!/bin/sh
set -e
[ "$1" = configure ] || exit 0
if [ ! -e /usr/share/perl5/PVE/BackupProvider/Plugin/Base.pm ]; then
    echo "vmar-proxmox: this Proxmox VE has no backup providers: 8.4 is the first with them" >&2
fi
[ ! -d /run/systemd/system ] || systemctl try-reload-or-restart pvedaemon pveproxy pvestatd pvescheduler || true
SCRIPT
  sed 's/^\[ "\$1" = configure \]/[ "$1" = remove ]/; /^if /,/^fi/d' "$root/DEBIAN/postinst" >"$root/DEBIAN/postrm"
  chmod 755 "$root/DEBIAN/postinst" "$root/DEBIAN/postrm"
  package_of vmar-proxmox all "vmar (= $version), perl, libpve-storage-perl" '' \
    "vmar as a storage and backup provider of Proxmox VE
 A storage of type vmar for Proxmox VE 8.4 and later: vzdump and backup jobs back
 up running virtual machines into a vmar datastore, incrementally by dirty
 bitmaps, and restore them from there."
}

programs
plugin
