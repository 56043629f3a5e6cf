# SPDX-License-Identifier: MIT
# A vmar datastore as a storage of Proxmox VE (8.4 and later) that holds backups of virtual machines.
#
#   vmar: nightly
#       path /mnt/backup/store
#       content backup
#       prune-backups keep-daily=7,keep-weekly=4

package PVE::Storage::Custom::VmarPlugin;

use v5.28;
use warnings;

use PVE::BackupProvider::Plugin::Vmar;
use PVE::Tools;
use Vmar::Program;
use Vmar::Volume qw(archive_of backup_id backup_of epoch_of parse_volume);

use base qw(PVE::Storage::Plugin);

# The storage API knows backup providers from this version on; tried with up to the second.
use constant LEAST_API => 11;
use constant MOST_API => 13;
use constant DF_SECONDS => 5;
use constant MAINTENANCE_SECONDS => 600;
my @KEEP = map { "keep-$_" } qw(last hourly daily weekly monthly yearly);

# ---- what it is ----

sub api {
    my $there = eval { PVE::Storage::APIVER() } // LEAST_API;
    return $there < LEAST_API || $there > MOST_API ? LEAST_API : $there;
}

sub type { return 'vmar' }

sub plugindata {
    return {
        content => [{ backup => 1, none => 1 }, { backup => 1 }],
        features => { 'backup-provider' => 1 },
        'sensitive-properties' => {},
    };
}

sub properties {
    return {
        'vmar-program' => {
            description => 'The vmar program, where it is not /usr/bin/vmar.',
            type => 'string',
            format => 'pve-storage-path',
        },
    };
}

sub options {
    return {
        path => { fixed => 1 },
        namespace => { optional => 1 },
        'vmar-program' => { optional => 1 },
        nodes => { optional => 1 },
        shared => { optional => 1 },
        disable => { optional => 1 },
        content => { optional => 1 },
        'prune-backups' => { optional => 1 },
        'max-protected-backups' => { optional => 1 },
    };
}

sub new_backup_provider {
    my ($class, $scfg, $storeid, $log_function) = @_;
    return PVE::BackupProvider::Plugin::Vmar->new($class, $scfg, $storeid, $log_function);
}

# The vmar of a storage.
sub vmar {
    my ($class, $scfg) = @_;
    my $program = $scfg->{'vmar-program'};
    return Vmar::Program->new(datastore => $scfg->{path}, defined $program ? (program => $program) : ());
}

# ---- the storage as a whole ----

sub on_add_hook {
    my ($class, $storeid, $scfg, %sensitive) = @_;
    $class->vmar($scfg)->json(['list'], timeout => MAINTENANCE_SECONDS, accept => [3]);
    return;
}

sub on_update_hook { return }

sub on_delete_hook { return }

sub activate_storage {
    my ($class, $storeid, $scfg, $cache) = @_;
    return 1 if -e "$scfg->{path}/datastore.pb";
    die "storage '$storeid': there is no vmar datastore at $scfg->{path}; mount it, or make one with 'vmar init'\n";
}

sub deactivate_storage { return 1 }

sub check_connection { return 1 }

# (total, free, used, active), in bytes.
sub status {
    my ($class, $storeid, $scfg, $cache) = @_;
    return (0, 0, 0, 0) if !-e "$scfg->{path}/datastore.pb";
    my $df = PVE::Tools::df($scfg->{path}, DF_SECONDS) or return (0, 0, 0, 0);
    return ($df->{total}, $df->{avail}, $df->{used}, 1);
}

# ---- names ----

sub parse_volname {
    my ($class, $volname) = @_;
    if ($volname =~ m{\Abackup/}) {
        my ($archive, $vmid) = parse_volume($volname);
        return ('backup', $archive, $vmid, undef, undef, undef, 'vmar') if defined $archive;
    }
    die "unable to parse vmar volume name '$volname'\n";
}

# The manifest's file: what there is of a backup that is its own.
sub path {
    my ($class, $scfg, $volname, $storeid, $snapname) = @_;
    die "snapshots are not supported by vmar storages\n" if defined $snapname;
    my (undef, undef, $vmid) = $class->parse_volname($volname);
    my $path = "$scfg->{path}/manifests/" . backup_id($scfg, $volname) . '.manifest';
    return wantarray ? ($path, $vmid, 'backup') : $path;
}

sub filesystem_path {
    my ($class, $scfg, $volname, $snapname) = @_;
    return $class->path($scfg, $volname, undef, $snapname);
}

# ---- the backups in it ----

# Each { archive, id, vmid, entry }, in order of guest and time; of one guest if it is named.
sub archives {
    my ($class, $scfg, $vmid) = @_;
    my $listed = $class->vmar($scfg)->json(['list'], timeout => MAINTENANCE_SECONDS, accept => [3]);
    my @archives;
    for my $entry (@{ $listed->{backups} }) {
        my ($archive, $guest) = backup_of($scfg, $entry->{backup}) or next;
        next if defined $vmid && $guest != $vmid;
        push @archives, { archive => $archive, id => $entry->{backup}, vmid => $guest, entry => $entry };
    }
    return @archives;
}

sub list_volumes {
    my ($class, $storeid, $scfg, $vmid, $content_types) = @_;
    return [] if !grep { $_ eq 'backup' } @$content_types;
    return [map { _volume($storeid, $_) } $class->archives($scfg, $vmid)];
}

sub _volume {
    my ($storeid, $found) = @_;
    my $entry = $found->{entry};
    my $notes = $entry->{notes} // '';
    return {
        volid => "$storeid:backup/$found->{archive}",
        format => 'vmar',
        content => 'backup',
        subtype => 'qemu',
        size => $entry->{size},
        vmid => $found->{vmid},
        ctime => epoch_of($found->{archive}),
        $notes eq '' ? () : (notes => $notes),
        $entry->{protected} ? (protected => 1) : (),
    };
}

sub list_images { return [] }

sub _show {
    my ($class, $scfg, $volname) = @_;
    return $class->vmar($scfg)->json(['show', backup_id($scfg, $volname)], timeout => MAINTENANCE_SECONDS);
}

sub volume_size_info {
    my ($class, $scfg, $storeid, $volname, $timeout) = @_;
    my $shown = $class->_show($scfg, $volname);
    my ($size, $stored) = (0, 0);
    for my $disk (@{ $shown->{disks} }) {
        $size += $disk->{size};
        $stored += $disk->{stored};
    }
    return wantarray ? ($size, 'vmar', $stored, undef, epoch_of(archive_of($volname))) : $size;
}

sub get_volume_attribute {
    my ($class, $scfg, $storeid, $volname, $attribute) = @_;
    return if $attribute ne 'notes' && $attribute ne 'protected';
    my $shown = $class->_show($scfg, $volname);
    return $attribute eq 'notes' ? $shown->{notes} : $shown->{protected} ? 1 : 0;
}

sub update_volume_attribute {
    my ($class, $scfg, $storeid, $volname, $attribute, $value) = @_;
    my $id = backup_id($scfg, $volname);
    my $vmar = $class->vmar($scfg);
    my %options = (timeout => MAINTENANCE_SECONDS);
    if ($attribute eq 'notes') {
        $vmar->json(['notes', $id, '--set', $value // ''], %options);
    } elsif ($attribute eq 'protected') {
        $vmar->json(['protect', $id, $value ? () : '--off'], %options);
    } else {
        die "attribute '$attribute' is not supported for storage type '" . $class->type . "'\n";
    }
    return;
}

sub get_volume_notes {
    my ($class, $scfg, $storeid, $volname, $timeout) = @_;
    return $class->get_volume_attribute($scfg, $storeid, $volname, 'notes');
}

sub update_volume_notes {
    my ($class, $scfg, $storeid, $volname, $notes, $timeout) = @_;
    return $class->update_volume_attribute($scfg, $storeid, $volname, 'notes', $notes);
}

# vmar refuses where the backup is protected. The space comes back with the next `vmar gc`.
sub free_image {
    my ($class, $storeid, $scfg, $volname, $is_base) = @_;
    $class->parse_volname($volname);
    $class->vmar($scfg)->json(['forget', backup_id($scfg, $volname)], timeout => MAINTENANCE_SECONDS);
    unlink $class->log_path($scfg, archive_of($volname));
    return;
}

# Each { volid, ctime, type, vmid, mark => keep, remove or protected }.
sub prune_backups {
    my ($class, $scfg, $storeid, $keep, $vmid, $type, $dryrun, $logfunc) = @_;
    $logfunc //= sub { };
    return [] if defined $type && $type ne 'qemu';
    my %guests = map { $_->{id} =~ s{/[^/]+\z}{}r => 1 } $class->archives($scfg, $vmid);
    return [] if !%guests;
    my @rules = map { $keep->{$_} ? ("--$_", $keep->{$_}) : () } @KEEP;
    @rules = ('--keep-all') if $keep->{'keep-all'} || !@rules;
    my @words = ('prune', @rules, $dryrun ? '--dry-run' : (), sort keys %guests);
    my $vmar = $class->vmar($scfg)->with_log($logfunc);
    my $pruned = $vmar->json(\@words, timeout => MAINTENANCE_SECONDS, accept => [1, 3, 5]);
    my @list = map { _pruned($storeid, $scfg, $_) } @{ $pruned->{backups} };
    for my $failed (@{ $pruned->{failed} // [] }) {
        $logfunc->('err', "$failed->{guest} was not pruned: $failed->{message}");
    }
    die "error pruning backups - check log\n" if @{ $pruned->{failed} // [] };
    if (!$dryrun) {
        $logfunc->('info', "removed backup '$_->{volid}'") for grep { $_->{mark} eq 'remove' } @list;
    }
    return \@list;
}

sub _pruned {
    my ($storeid, $scfg, $entry) = @_;
    my ($archive, $vmid) = backup_of($scfg, $entry->{backup}) or return;
    my $mark = !$entry->{keep} ? 'remove' : $entry->{why} eq 'protected' ? 'protected' : 'keep';
    return {
        volid => "$storeid:backup/$archive",
        ctime => epoch_of($archive),
        type => 'qemu',
        vmid => $vmid,
        mark => $mark,
    };
}

# ---- logs of backups; they lie in the datastore, beside what is checked ----

sub log_path {
    my ($class, $scfg, $archive) = @_;
    return Vmar::Program::clean("$scfg->{path}/state/proxmox-logs/" . backup_id($scfg, $archive) . '.log');
}

# Removes the logs of backups that are gone.
sub sweep_logs {
    my ($class, $scfg) = @_;
    my $namespace = ($scfg->{namespace} // '') eq '' ? '' : "$scfg->{namespace}/";
    for my $path (glob _glob_escape("$scfg->{path}/state/proxmox-logs/${namespace}vm") . '/*/*.log') {
        my ($archive) = $path =~ m{(vm/[^/]+/[^/]+)\.log\z} or next;
        next if !parse_volume($archive);
        my $manifest = eval { $class->path($scfg, "backup/$archive") } or next;
        unlink Vmar::Program::clean($path) if !-e $manifest;
    }
    return;
}

sub _glob_escape {
    my ($text) = @_;
    $text =~ s/([\\\[\]{}*?~\s])/\\$1/g;
    return $text;
}

# ---- what backups are not ----

sub activate_volume {
    my ($class, $storeid, $scfg, $volname, $snapname, $cache) = @_;
    my $path = $class->path($scfg, $volname, $storeid, $snapname);
    -e $path or die "there is no backup '$volname' in storage '$storeid'\n";
    return 1;
}

sub deactivate_volume { return 1 }

sub volume_has_feature { return undef }

sub storage_can_replicate { return 0 }

for my $name (qw(
    alloc_image clone_image create_base volume_resize volume_snapshot volume_snapshot_rollback
    volume_snapshot_delete rename_volume volume_export volume_import
)) {
    no strict 'refs';
    *{$name} = sub { die "$name: a vmar storage holds backups, and nothing else\n" };
}

sub volume_export_formats { return () }

sub volume_import_formats { return () }

1;
