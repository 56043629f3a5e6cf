# SPDX-License-Identifier: MIT
# STAND-IN, for tests only: not Proxmox's class of this name, and nothing of it. It has no method that a plugin could lean
# on by mistake.

package PVE::Storage::Plugin;

use v5.28;
use warnings;

1;
