# SPDX-License-Identifier: MIT
# STAND-IN, for tests only: the one function that is used of Proxmox's module of this name.

package PVE::Tools;

use v5.28;
use warnings;

sub df {
    my ($path, $timeout) = @_;
    open(my $df, '-|', '/bin/df', '-B1', '--output=size,used,avail', $path) or die "df: $!\n";
    my ($title, $line) = <$df>;
    my ($total, $used, $avail) = $line =~ /(\d+)\s+(\d+)\s+(\d+)/;
    return { total => $total, used => $used, avail => $avail };
}

1;
