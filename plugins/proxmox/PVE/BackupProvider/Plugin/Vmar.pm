# SPDX-License-Identifier: MIT
# Backups of virtual machines into a vmar datastore, as Proxmox VE's backup provider API asks for them.
#
# Guarantee: a dirty bitmap is used only when this host wrote down which backup it follows, and that is the guest's latest
# in the datastore still. A backup of which Proxmox learns that it failed is not left in the datastore.

package PVE::BackupProvider::Plugin::Vmar;

use v5.28;
use warnings;

use File::Copy ();
use File::Path ();
use File::Temp ();
use IO::Handle;

use Vmar::Program;
use Vmar::Record;
use Vmar::Server;
use Vmar::Volume qw(archive_name archive_of backup_id epoch_of);

use base qw(PVE::BackupProvider::Plugin::Base);

use constant GUEST_CONFIG => 'qemu-server.conf';
use constant FIREWALL_CONFIG => 'qemu-server.fw';

sub new {
    my ($class, $storage_plugin, $scfg, $storeid, $log_function) = @_;
    my $vmar = $storage_plugin->vmar($scfg)->with_log($log_function);
    return bless {
        plugin => $storage_plugin,
        scfg => $scfg,
        storeid => $storeid,
        log => $log_function,
        vmar => $vmar,
    }, $class;
}

sub provider_name { return 'vmar' }

# ---- a job ----

sub job_init {
    my ($self, $start_time) = @_;
    $self->{plugin}->activate_storage($self->{storeid}, $self->{scfg}, {});
    $self->{plugin}->sweep_logs($self->{scfg});
    return;
}

sub job_cleanup { return }

sub backup_init {
    my ($self, $vmid, $vmtype, $start_time) = @_;
    _refuse_containers($vmid, $vmtype);
    delete $self->{kept};
    my %taken = map { $_->{archive} => 1 } $self->{plugin}->archives($self->{scfg}, $vmid);
    $start_time++ while $taken{ archive_name($vmid, $start_time) };
    $self->{job} = { vmid => $vmid, archive => archive_name($vmid, $start_time), stored => 0 };
    return { 'archive-name' => $self->{job}->{archive} };
}

sub backup_get_mechanism {
    my ($self, $vmid, $vmtype) = @_;
    _refuse_containers($vmid, $vmtype);
    return 'nbd';
}

sub _refuse_containers {
    my ($vmid, $vmtype) = @_;
    return if ($vmtype // '') eq 'qemu';
    die "vmar backs up virtual machines only, and nothing tells what $vmid is\n" if !defined $vmtype;
    die "vmar backs up virtual machines only, and $vmid is a container: use another storage for it\n";
}

# 'use' where the bitmap is known to follow the latest backup; else 'new', and the disk is read in full.
sub backup_vm_query_incremental {
    my ($self, $vmid, $volumes) = @_;
    my $record = Vmar::Record->new($self->{storeid}, $vmid)->read;
    my $latest = ($self->{plugin}->archives($self->{scfg}, $vmid))[-1];
    my $fits = $record && $latest && $record->{datastore} eq $self->_datastore && $record->{backup} eq $latest->{id};
    $self->{job}->{parent} = $record->{backup} if $fits;
    my %modes;
    for my $disk (keys %$volumes) {
        my $size = $fits ? $record->{disks}->{$disk} : undef;
        $modes{$disk} = defined $size && $size == $volumes->{$disk}->{size} ? 'use' : 'new';
    }
    return \%modes;
}

# A bitmap that begins anew follows no backup before this one has succeeded: should this one fail, it must not be taken for
# what follows the backup before.
sub _keep_reused {
    my ($self, $vmid, $volumes) = @_;
    my $record = Vmar::Record->new($self->{storeid}, $vmid);
    my $known = $record->read or return;
    my %kept = map { $_ => $known->{disks}->{$_} }
        grep { ($volumes->{$_}->{'bitmap-mode'} // '') eq 'reuse' && defined $known->{disks}->{$_} } keys %$volumes;
    return if keys %kept == keys %{ $known->{disks} };
    if (%kept) { $record->write({ %$known, disks => \%kept }) }
    else { $record->forget }
    return;
}

sub backup_vm {
    my ($self, $vmid, $guest_config, $volumes, $info) = @_;
    my $job = $self->{job};
    $self->_keep_reused($vmid, $volumes);
    my $configs = File::Temp->newdir('vmar-' . 'X' x 8, TMPDIR => 1);
    my @words = ('backup', $self->_id($job->{archive}), '--time', epoch_of($job->{archive}), '--discard-source');
    $words[1] =~ s{/[^/]+\z}{};
    push @words, '--config', _config_file($configs, GUEST_CONFIG, $guest_config);
    my $firewall = $info->{'firewall-config'};
    push @words, '--config', _config_file($configs, FIREWALL_CONFIG, $firewall) if defined $firewall;
    push @words, '--speed', $info->{'bandwidth-limit'} if $info->{'bandwidth-limit'};
    push @words, _disk_words($volumes);
    push @words, '--parent', $job->{parent} if defined $job->{parent} && _any_mode($volumes, 'reuse');

    my %failure;
    my $result = eval { $self->{vmar}->json(\@words, failure => \%failure) };
    if (!$result) {
        my $why = $@;
        # The next night must not fail of the same.
        Vmar::Record->new($self->{storeid}, $vmid)->forget if _is_of_parent(\%failure);
        die $why;
    }
    $job->{backup} = $result->{backup};
    $job->{disks} = { map { $_->{name} => $_->{size} } grep { _follows($volumes->{ $_->{name} }) } @{ $result->{disks} } };
    $job->{stored} += $_->{stored} for @{ $result->{disks} };
    my $announced = $self->_id($job->{archive});
    die "the backup is $job->{backup}, but was announced as $announced\n" if $job->{backup} ne $announced;
    $self->_tell_disk($_, $volumes->{ $_->{name} }) for @{ $result->{disks} };
    return;
}

sub _config_file {
    my ($directory, $name, $content) = @_;
    my $path = "$directory/$name";
    open(my $file, '>', $path) or die "$path: $!\n";
    my $bytes = $content;
    utf8::encode($bytes) if utf8::is_utf8($bytes);
    (print {$file} $bytes) && close($file) or die "$path: $!\n";
    return $path;
}

sub _disk_words {
    my ($volumes) = @_;
    my @words;
    for my $disk (sort keys %$volumes) {
        my $volume = $volumes->{$disk};
        push @words, '--disk', "$disk=nbd+unix:///" . _escape($disk) . '?socket=' . _escape($volume->{'nbd-path'});
        push @words, '--bitmap', "$disk=$volume->{'bitmap-name'}:$volume->{'bitmap-mode'}" if _follows($volume);
    }
    return @words;
}

# Whether a bitmap follows this backup of the disk.
sub _follows {
    my ($volume) = @_;
    my $mode = $volume->{'bitmap-mode'} // 'none';
    return ($mode eq 'new' || $mode eq 'reuse') && defined $volume->{'bitmap-name'};
}

sub _any_mode {
    my ($volumes, $mode) = @_;
    return scalar grep { _follows($_) && $_->{'bitmap-mode'} eq $mode } values %$volumes;
}

sub _is_of_parent {
    my ($failure) = @_;
    return 1 if ($failure->{status} // 0) == 3;
    return scalar grep { ($failure->{code} // '') eq $_ } qw(no-usable-parent parent-damaged no-bitmap);
}

sub _escape {
    my ($text) = @_;
    utf8::encode($text) if utf8::is_utf8($text);
    $text =~ s{([^A-Za-z0-9._~/-])}{sprintf '%%%02X', ord $1}ge;
    return $text;
}

sub _tell_disk {
    my ($self, $disk, $volume) = @_;
    my $how = ($volume->{'bitmap-mode'} // 'none') eq 'reuse' ? 'incremental' : 'full';
    my ($size, $read, $new, $stored) = map { _mebibytes($disk->{$_}) } qw(size read new stored);
    $self->{log}->('info', "$disk->{name}: $how, $read of $size read, $new new, $stored stored");
    return;
}

sub _mebibytes { return sprintf('%.1f MiB', $_[0] / 2**20) }

# Before backup_cleanup, or after it, when the log has the archive's size as well.
sub backup_handle_log_file {
    my ($self, $vmid, $filename) = @_;
    # Without a backup there is nothing that it could lie beside; Proxmox keeps the task's log itself.
    my ($job) = grep { $_ && defined $_->{backup} && $_->{vmid} == $vmid } $self->{job}, $self->{kept};
    return if !$job;
    my $path = $self->{plugin}->log_path($self->{scfg}, $job->{archive});
    my ($directory) = $path =~ m{\A(.*)/};
    File::Path::make_path($directory, { mode => 0700 });
    File::Copy::copy($filename, $path) or die "$path: $!\n";
    return;
}

sub backup_cleanup {
    my ($self, $vmid, $vmtype, $success, $info) = @_;
    my $job = delete $self->{job} // {};
    if ($success && defined $job->{backup}) {
        $self->_record($vmid, $job);
        $self->{kept} = $job;
    } elsif (defined $job->{backup}) {
        $self->_take_back($job);
    }
    return { stats => { 'archive-size' => $job->{stored} // 0 } };
}

# The backup is there and good, whether or not this can be written down.
sub _record {
    my ($self, $vmid, $job) = @_;
    my $record = Vmar::Record->new($self->{storeid}, $vmid);
    my $disks = $job->{disks};
    return $record->forget if !%$disks;
    return if eval { $record->write({ datastore => $self->_datastore, backup => $job->{backup}, disks => $disks }); 1 };
    $self->{log}->('warn', "the next backup will be full, for its bitmaps cannot be written down: $@");
    return;
}

# The bitmaps go on from the backup before: so that must be the latest again.
sub _take_back {
    my ($self, $job) = @_;
    if (eval { $self->{vmar}->json(['forget', $job->{backup}]); 1 }) {
        unlink $self->{plugin}->log_path($self->{scfg}, $job->{archive});
        return;
    }
    $self->{log}->('warn', "the failed backup $job->{backup} is left, and the next one will be full: $@");
    return;
}

# ---- restore ----

sub restore_get_mechanism {
    my ($self, $volname) = @_;
    archive_of($volname);
    return ('qemu-img', 'qemu');
}

sub archive_get_guest_config {
    my ($self, $volname) = @_;
    return $self->_config($volname, GUEST_CONFIG)
        // die "the backup $volname holds no configuration of a guest of Proxmox\n";
}

sub archive_get_firewall_config {
    my ($self, $volname) = @_;
    return scalar $self->_config($volname, FIREWALL_CONFIG);
}

sub _config {
    my ($self, $volname, $name) = @_;
    my $id = $self->_id($volname);
    my $shown = $self->{vmar}->json(['show', $id]);
    return if !grep { $_->{name} eq $name } @{ $shown->{configs} };
    return $self->{vmar}->raw(['show', $id, '--config', $name]);
}

sub restore_vm_init {
    my ($self, $volname) = @_;
    my $id = $self->_id($volname);
    my $shown = $self->{vmar}->json(['show', $id]);
    my %disks = map { $_->{name} => { size => $_->{size} } } grep { $_->{kind} eq 'disk' } @{ $shown->{disks} };
    $self->{server}->stop if $self->{server};
    $self->{server} = Vmar::Server->start($self->{vmar}, $id);
    return \%disks;
}

sub restore_vm_volume_init {
    my ($self, $volname, $device_name, $info) = @_;
    my $server = $self->{server} // die "the restore of $volname was not begun\n";
    return { 'qemu-img-path' => $server->uri($device_name) };
}

sub restore_vm_volume_cleanup { return }

sub restore_vm_cleanup {
    my ($self, $volname) = @_;
    my $server = delete $self->{server};
    $server->stop if $server;
    return;
}

sub restore_container_init { die "vmar holds no backups of containers\n" }

sub restore_container_cleanup { return }

sub backup_container_prepare { return _refuse_containers($_[1], 'lxc') }

sub backup_container { return _refuse_containers($_[1], 'lxc') }

sub _id {
    my ($self, $volname) = @_;
    return backup_id($self->{scfg}, $volname);
}

sub _datastore {
    my ($self) = @_;
    return $self->{scfg}->{path};
}

1;
