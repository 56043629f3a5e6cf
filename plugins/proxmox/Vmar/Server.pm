# SPDX-License-Identifier: MIT
# A `vmar serve` that lives as long as this object, and no longer than this process, however that ends.

package Vmar::Server;

use v5.28;
use warnings;

use IO::Select;
use JSON::PP ();

# Where the sockets are; for root alone.
our $RUN_DIRECTORY = '/run/vmar';
use constant START_SECONDS => 120;

my $count = 0;

# Serves a backup; dies if it does not come to that.
sub start {
    my ($class, $vmar, $backup) = @_;
    my $directory = Vmar::Program::clean($RUN_DIRECTORY);
    mkdir $directory, 0700 or $!{EEXIST} or die "$directory: $!\n";
    my $socket = sprintf('%s/restore-%d-%d.sock', $directory, $$, ++$count);
    pipe(my $input, my $hold) or die "pipe: $!\n";
    pipe(my $out, my $out_end) or die "pipe: $!\n";
    # The other end of its input is held here: it ends when that is closed, be it by kill -9 of this process.
    my $pid = $vmar->start(
        ['--json', '--quiet', 'serve', $backup, '--socket', $socket, '--exit-with-parent'],
        stdin => $input,
        stdout => $out_end,
        stderr => \*STDERR,
    );
    close $input;
    close $out_end;
    my $self = bless { vmar => $vmar, pid => $pid, owner => $$, hold => $hold, socket => $socket }, $class;
    $self->{document} = $self->_await($out);
    $self->{output} = $out;
    return $self;
}

sub _await {
    my ($self, $out) = @_;
    my ($text, $end) = ('', time() + START_SECONDS);
    my $select = IO::Select->new($out);
    while ($text !~ /\n/) {
        my $left = $end - time();
        die "vmar serve gave no answer within " . START_SECONDS . " seconds\n" if $left <= 0;
        next if !$select->can_read($left);
        my $read = sysread($out, $text, 65536, length $text);
        die "vmar serve ended before it listened\n" if defined $read && $read == 0;
    }
    my $document = JSON::PP->new->utf8->decode($text);
    my $error = $document->{error} or return $document;
    die "vmar serve: $error->{message}" . (defined $error->{object} ? " ($error->{object})" : '') . "\n";
}

# The URI of a disk, as qemu-img takes it.
sub uri {
    my ($self, $disk) = @_;
    if (!defined $self->{pid} || $self->{vmar}->has_ended($self->{pid})) {
        delete $self->{pid};
        unlink $self->{socket};
        die "vmar serve has ended: begin the restore again\n";
    }
    for my $export (@{ $self->{document}->{exports} }) {
        # Proxmox hands it to qemu-img, in taint mode maybe.
        return Vmar::Program::clean($export->{uris}->[0]) if $export->{name} eq $disk;
    }
    die "the backup has no disk $disk\n";
}

# May be called twice.
sub stop {
    my ($self) = @_;
    my $pid = delete $self->{pid} or return;
    # A child of this process has a copy of this object, but not of the server.
    return if $self->{owner} != $$;
    close $self->{hold};
    Vmar::Program->stop($pid);
    unlink $self->{socket};
    return;
}

# When the whole process ends, other objects may be gone already: nothing here needs them.
sub DESTROY {
    my ($self) = @_;
    local ($?, $!, $@);
    $self->stop;
    return;
}

1;
