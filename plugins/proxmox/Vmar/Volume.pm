# SPDX-License-Identifier: MIT
# What a backup is called in Proxmox ("backup/vm/100/2026-11-21T02:00:00Z") and in vmar (with the storage's namespace).

package Vmar::Volume;

use v5.28;
use warnings;

use Exporter qw(import);
use POSIX qw(strftime);
use Time::Local qw(timegm);

our @EXPORT_OK = qw(archive_name archive_of backup_id backup_of epoch_of parse_volume);

my $TIME = qr/(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)Z/;
my $ARCHIVE = qr{vm/([1-9]\d*)/$TIME};

# The archive of a guest at a time: "vm/100/2026-11-21T02:00:00Z".
sub archive_name {
    my ($vmid, $epoch) = @_;
    return "vm/$vmid/" . strftime('%Y-%m-%dT%H:%M:%SZ', gmtime $epoch);
}

# The archive and guest of a volume, "backup/" before it or not; nothing if it is none of ours.
sub parse_volume {
    my ($volume) = @_;
    my ($archive, $vmid) = $volume =~ m{\A(?:backup/)?($ARCHIVE)\z} or return;
    return ($archive, $vmid);
}

sub archive_of {
    my ($volume) = @_;
    my ($archive) = parse_volume($volume) or die "'$volume' is not the name of a backup in a vmar storage\n";
    return $archive;
}

# vmar's name of an archive.
sub backup_id {
    my ($scfg, $volume) = @_;
    my $namespace = $scfg->{namespace} // '';
    return ($namespace eq '' ? '' : "$namespace/") . archive_of($volume);
}

# The archive and guest of what vmar lists; nothing for other namespaces.
sub backup_of {
    my ($scfg, $id) = @_;
    my $prefix = ($scfg->{namespace} // '') eq '' ? '' : "$scfg->{namespace}/";
    return if substr($id, 0, length $prefix) ne $prefix;
    return parse_volume(substr($id, length $prefix));
}

sub epoch_of {
    my ($archive) = @_;
    my ($year, $month, $day, $hour, $minute, $second) = $archive =~ m{$TIME\z} or die "no time in '$archive'\n";
    return timegm($second, $minute, $hour, $day, $month - 1, $year);
}

1;
