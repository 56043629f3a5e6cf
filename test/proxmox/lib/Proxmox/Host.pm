# SPDX-License-Identifier: MIT
# Plays Proxmox's part: calls a storage plugin and its backup provider in Proxmox's order.

package Proxmox::Host;

use v5.28;
use warnings;

use File::Temp ();

sub new {
    my ($class, %given) = @_;
    return bless { %given, log => [] }, $class;
}

sub provider {
    my ($self) = @_;
    my $log = sub { push @{ $self->{log} }, [@_] };
    return $self->{plugin}->new_backup_provider($self->{scfg}, $self->{storeid}, $log);
}

sub log_text { return join "\n", map { "$_->[0]: $_->[1]" } @{ $_[0]->{log} } }

# One night. options: start, configs, firewall, limit, meanwhile (a sub), spoil (the job fails after the backup is made),
# log_first (the log is handed over before the backup is cleaned up, and not after it),
# provider (of a job that has more guests, which is begun and ended elsewhere).
sub vzdump {
    my ($self, $guest, %options) = @_;
    my $vmid = $options{vmid} // 100;
    my $start = $options{start} // time();
    my $provider = $options{provider} // $self->provider;
    my $result = {};
    $provider->job_init($start) if !$options{provider};
    my $success = eval {
        my $init = $provider->backup_init($vmid, 'qemu', $start);
        $result->{volid} = "$self->{storeid}:backup/$init->{'archive-name'}";
        die "mechanism\n" if $provider->backup_get_mechanism($vmid, 'qemu') ne 'nbd';
        my $disk = $guest->DISK;
        my $modes = $provider->backup_vm_query_incremental($vmid, { $disk => { size => $guest->{size} } });
        $result->{asked} = $modes->{$disk} // 'none';
        my $mode = { none => 'none', new => 'new', use => $guest->has_bitmap ? 'reuse' : 'new' }->{ $result->{asked} };
        my $volume = $guest->evening($mode);
        my $done = eval {
            $result->{truth} = $guest->save($options{save}) if $options{save};
            $options{meanwhile}->() if $options{meanwhile};
            my $info = { 'firewall-config' => $options{firewall} };
            $info->{'bandwidth-limit'} = $options{limit} if $options{limit};
            $provider->backup_vm($vmid, $options{config} // "name: test\n", { $disk => $volume }, $info);
            $options{after}->() if $options{after};
            die "the host failed\n" if $options{spoil};
            1;
        };
        my $why = $@;
        $guest->morning($done);
        die $why if !$done;
        1;
    };
    $result->{error} = $@;
    my $log = File::Temp->new;
    print {$log} "INFO: the log\n";
    $log->flush;
    $provider->backup_handle_log_file($vmid, $log->filename) if $options{log_first};
    my $cleaned = $provider->backup_cleanup($vmid, 'qemu', $success, $success ? {} : { error => $result->{error} });
    $provider->backup_handle_log_file($vmid, $log->filename) if !$options{log_first};
    $provider->job_cleanup if !$options{provider};
    $result->{size} = $cleaned->{stats}->{'archive-size'};
    return $result;
}

# Restores a volume's disks below a directory. Gives the configuration.
sub restore {
    my ($self, $volid, $directory) = @_;
    my (undef, $volname) = split /:/, $volid, 2;
    my $provider = $self->provider;
    my ($mechanism, $type) = $provider->restore_get_mechanism($volname);
    die "not this mechanism\n" if $mechanism ne 'qemu-img' || $type ne 'qemu';
    my $config = $provider->archive_get_guest_config($volname);
    my $firewall = $provider->archive_get_firewall_config($volname);
    my $disks = $provider->restore_vm_init($volname);
    my $done = eval {
        for my $disk (sort keys %$disks) {
            my $path = $provider->restore_vm_volume_init($volname, $disk, {})->{'qemu-img-path'};
            system('qemu-img', 'convert', '-f', 'raw', '-O', 'raw', $path, "$directory/$disk.raw") == 0 or die "qemu-img\n";
            $provider->restore_vm_volume_cleanup($volname, $disk, {});
        }
        1;
    };
    my $why = $@;
    $provider->restore_vm_cleanup($volname);
    die $why if !$done;
    return { config => $config, firewall => $firewall, disks => $disks };
}

1;
