# SPDX-License-Identifier: MIT
# Plays QEMU's part of Proxmox: a disk that a guest writes to, in a real qemu-storage-daemon, and for each night a fleeced
# snapshot that is exported over NBD with a dirty bitmap. What is clean cannot be read there.

package Proxmox::Guest;

use v5.28;
use warnings;

use IO::Socket::UNIX;
use JSON::PP ();

use constant DISK => 'drive-scsi0';
use constant BITMAP => 'backup-access-vmar';

sub start {
    my ($class, $directory, $size) = @_;
    my $self = bless { directory => $directory, size => $size, owner => $$ }, $class;
    _sized("$directory/disk.raw", $size);
    unlink map { "$directory/$_" } qw(qmp.sock nbd.sock);
    $self->{pid} = fork() // die "fork: $!";
    if (!$self->{pid}) {
        exec(
            'qemu-storage-daemon',
            '--chardev', "socket,path=$directory/qmp.sock,server=on,wait=off,id=c0", '--monitor', 'chardev=c0',
            '--blockdev', "driver=raw,node-name=source,file.driver=file,file.filename=$directory/disk.raw,discard=unmap",
            '--blockdev', 'driver=raw,node-name=top,file=source,discard=unmap',
            '--nbd-server', "addr.type=unix,addr.path=$directory/nbd.sock,max-connections=32",
            '--export', 'type=nbd,id=guest,node-name=top,name=guest,writable=on',
        );
        die "qemu-storage-daemon: $!";
    }
    # A socket is there a moment before anybody listens to it.
    for (1 .. 3000) {
        last if -S "$directory/nbd.sock" && ($self->{qmp} = IO::Socket::UNIX->new(Peer => "$directory/qmp.sock"));
        select(undef, undef, undef, 0.02);
    }
    $self->{qmp} or die "no monitor: $!";
    readline $self->{qmp};
    $self->qmp('qmp_capabilities');
    return $self;
}

sub _sized {
    my ($path, $size) = @_;
    open(my $file, '>>', $path) or die "$path: $!";
    truncate($file, $size) or die "$path: $!";
    return;
}

sub qmp {
    my ($self, $command, $arguments) = @_;
    my $json = JSON::PP->new->utf8;
    print { $self->{qmp} } $json->encode({ execute => $command, arguments => $arguments // {} }), "\n";
    $self->{qmp}->flush;
    while (defined(my $line = readline $self->{qmp})) {
        my $message = $json->decode($line);
        push @{ $self->{events} }, $message if $message->{event};
        die "$command: $message->{error}->{desc}\n" if $message->{error};
        return $message->{return} if exists $message->{return};
    }
    die "$command: the monitor is gone\n";
}

sub _await_gone {
    my ($self, $id) = @_;
    my $json = JSON::PP->new->utf8;
    while (1) {
        my @events = splice @{ $self->{events} };
        return if grep { $_->{event} eq 'BLOCK_EXPORT_DELETED' && $_->{data}->{id} eq $id } @events;
        push @{ $self->{events} }, $json->decode(scalar readline $self->{qmp});
    }
}

sub _uri { return "nbd+unix:///$_[1]?socket=$_[0]->{directory}/nbd.sock" }

# Each change: offset, length, number of the bytes.
sub write {
    my ($self, @changes) = @_;
    my @commands = map { ('-c', "write -q -P $_->[2] $_->[0] $_->[1]") } @changes;
    system('qemu-io', '-f', 'raw', @commands, $self->_uri('guest')) == 0 or die 'qemu-io failed';
    return;
}

# A copy of what the guest has now.
sub save {
    my ($self, $path) = @_;
    system('qemu-img', 'convert', '-f', 'raw', '-O', 'raw', $self->_uri('guest'), $path) == 0 or die 'qemu-img failed';
    return $path;
}

sub has_bitmap { return $_[0]->{bitmap} }

# The snapshot begins; mode: none, new or reuse. Gives the volume as Proxmox hands it to a provider.
sub evening {
    my ($self, $mode) = @_;
    my ($directory, $node) = ($self->{directory}, 'source');
    my $false = JSON::PP::false();
    my $next = { node => $node, name => BITMAP . '-next', granularity => 4096, persistent => $false };
    if ($mode eq 'new' && delete $self->{bitmap}) {
        $self->qmp('block-dirty-bitmap-remove', { node => $node, name => BITMAP });
    }
    my @actions;
    push @actions, { type => 'block-dirty-bitmap-add', data => $next } if $mode ne 'none';
    push @actions, { type => 'block-dirty-bitmap-disable', data => { node => $node, name => BITMAP } } if $mode eq 'reuse';
    $self->qmp('transaction', { actions => \@actions }) if @actions;
    unlink "$directory/fleece.raw";
    _sized("$directory/fleece.raw", $self->{size});
    my %file = (driver => 'file', 'node-name' => 'fleece', filename => "$directory/fleece.raw", discard => 'unmap');
    my @bitmap = $mode eq 'reuse' ? (bitmap => { node => $node, name => BITMAP }) : ();
    $self->qmp('blockdev-add', \%file);
    $self->qmp('blockdev-add', {
        driver => 'copy-before-write', 'node-name' => 'cbw', file => 'source', target => 'fleece',
        'on-cbw-error' => 'break-snapshot', 'cbw-timeout' => 45, discard => 'unmap', @bitmap,
    });
    $self->_under_guest('cbw');
    $self->qmp('blockdev-add', { driver => 'snapshot-access', 'node-name' => 'access', file => 'cbw', discard => 'unmap' });
    my @bitmaps = $mode eq 'reuse' ? (bitmaps => [{ node => $node, name => BITMAP }]) : ();
    $self->qmp('block-export-add', {
        type => 'nbd', id => 'night', 'node-name' => 'access', name => DISK, writable => JSON::PP::true(), @bitmaps,
    });
    $self->{mode} = $mode;
    return {
        size => $self->{size}, 'bitmap-mode' => $mode, 'nbd-path' => "$directory/nbd.sock",
        $mode eq 'none' ? () : ('bitmap-name' => BITMAP),
    };
}

sub _under_guest {
    my ($self, $file) = @_;
    my %top = (driver => 'raw', 'node-name' => 'top', file => $file, discard => 'unmap');
    $self->qmp('blockdev-reopen', { options => [\%top] });
    return;
}

sub fleece_bytes { return (stat "$_[0]->{directory}/fleece.raw")[12] * 512 }

# The snapshot ends. The bitmap follows this night, or the one before if this one failed.
sub morning {
    my ($self, $succeeded) = @_;
    my ($node, $mode) = ('source', $self->{mode});
    $self->qmp('block-export-del', { id => 'night', mode => 'hard' });
    $self->_await_gone('night');
    $self->qmp('blockdev-del', { 'node-name' => 'access' });
    $self->_under_guest('source');
    $self->qmp('blockdev-del', { 'node-name' => $_ }) for qw(cbw fleece);
    return if $mode eq 'none';
    my %place = (node => $node, name => BITMAP);
    if ($mode eq 'reuse' && $succeeded) { $self->qmp('block-dirty-bitmap-remove', \%place) }
    if ($mode eq 'reuse' && !$succeeded) { $self->_do('enable', \%place) }
    if ($succeeded) {
        $self->qmp('block-dirty-bitmap-add', { %place, granularity => 4096, persistent => JSON::PP::false() });
        $self->{bitmap} = 1;
    }
    if ($succeeded || $mode eq 'reuse') { $self->_do('merge', { node => $node, target => BITMAP, bitmaps => [BITMAP . '-next'] }) }
    $self->qmp('block-dirty-bitmap-remove', { node => $node, name => BITMAP . '-next' });
    return;
}

sub _do {
    my ($self, $what, $data) = @_;
    $self->qmp('transaction', { actions => [{ type => "block-dirty-bitmap-$what", data => $data }] });
    return;
}

sub stop {
    my ($self) = @_;
    my $pid = delete $self->{pid} or return;
    return if $self->{owner} != $$;
    kill 'TERM', $pid;
    waitpid $pid, 0;
    return;
}

sub DESTROY {
    my ($self) = @_;
    local ($?, $!, $@);
    $self->stop;
    return;
}

1;
