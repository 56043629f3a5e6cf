# SPDX-License-Identifier: MIT
# STAND-IN, for tests only: the version of the storage API, as Proxmox's module of this name tells it.

package PVE::Storage;

use v5.28;
use warnings;

our $VERSION_OF_API = 11;

sub APIVER { return $VERSION_OF_API }

1;
