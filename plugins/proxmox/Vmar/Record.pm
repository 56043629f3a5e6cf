# SPDX-License-Identifier: MIT
# Which backup the dirty bitmaps of a guest follow, as far as this host knows. QEMU's bitmaps live in the guest's process on
# this host, and their names say nothing; so what is not written here is not used, and the guest is read in full.

package Vmar::Record;

use v5.28;
use warnings;

use JSON::PP ();
use Vmar::Program;

our $STATE_DIRECTORY = '/var/lib/vmar/proxmox';

sub new {
    my ($class, $storeid, $vmid) = @_;
    my ($store) = $storeid =~ /\A([A-Za-z][A-Za-z0-9_.-]*)\z/ or die "not the name of a storage: $storeid\n";
    my ($guest) = $vmid =~ /\A(\d+)\z/ or die "not the id of a guest: $vmid\n";
    my $directory = Vmar::Program::clean($STATE_DIRECTORY) . "/$store";
    return bless { directory => $directory, path => "$directory/$guest.json" }, $class;
}

# { datastore, backup, disks => { NAME => size } }, or nothing.
sub read {
    my ($self) = @_;
    open(my $file, '<:raw', $self->{path}) or return;
    my $text = do { local $/ = undef; <$file> };
    my $record = eval { JSON::PP->new->utf8->decode($text // '') };
    return ref $record eq 'HASH' ? $record : undef;
}

# In one durable step.
sub write {
    my ($self, $record) = @_;
    my $path = '';
    for my $part (split m{/}, $self->{directory}) {
        $path .= "$part/";
        mkdir $path, 0700 or $!{EEXIST} or die "$path: $!\n";
    }
    my $new = "$self->{path}.new";
    open(my $file, '>:raw', $new) or die "$new: $!\n";
    my $text = JSON::PP->new->utf8->canonical->encode($record) . "\n";
    (print {$file} $text) && $file->flush && $file->sync or die "$new: $!\n";
    close $file or die "$new: $!\n";
    rename $new, $self->{path} or die "$self->{path}: $!\n";
    return;
}

sub forget {
    my ($self) = @_;
    unlink $self->{path};
    return;
}

1;
