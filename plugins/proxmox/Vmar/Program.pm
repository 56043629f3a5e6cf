# SPDX-License-Identifier: MIT
# Runs the vmar command line: one document out, notices to a log, and no process left behind.

package Vmar::Program;

use v5.28;
use warnings;

use Encode qw(decode encode);
use IO::Select;
use JSON::PP ();
use POSIX ();

# Give it time to take away what it made; then it is killed.
use constant STOP_SECONDS => 20;
use constant END_SECONDS => 5;
use constant READ_BYTES => 65536;

my @PLACES = qw(/usr/bin/vmar /usr/local/bin/vmar);
my $JSON = JSON::PP->new->utf8;
# prctl(PR_SET_PDEATHSIG, …), by the kernel's name of the machine.
my %PRCTL = (x86_64 => 157, aarch64 => 167);
my ($PR_SET_PDEATHSIG, $SIGTERM) = (1, 15);

# given: datastore, program (a path), log ($level, $message)
sub new {
    my ($class, %given) = @_;
    return bless {
        program => $given{program} // (grep { -x } @PLACES)[0] // $PLACES[0],
        datastore => $given{datastore},
        log => $given{log} // sub { },
    }, $class;
}

# The same for another log.
sub with_log {
    my ($self, $log) = @_;
    return bless { %$self, log => $log }, ref $self;
}

# Runs a command and gives its document. Dies with one line that says what to do; the exit status and the error's code
# stand in the hash that `options` may name: failure.
sub json {
    my ($self, $words, %options) = @_;
    my ($status, $text, $said) = $self->run(['--json', @$words], %options);
    my $document = eval { $JSON->decode($text) };
    return $document if $status == 0 && ref $document eq 'HASH';
    my $error = ref $document eq 'HASH' ? $document->{error} : undef;
    my $failure = $options{failure} // {};
    $failure->{status} = $status;
    $failure->{code} = $error ? $error->{code} : '';
    # Some commands give their document though not all is well.
    return $document if ref $document eq 'HASH' && !$error && grep { $_ == $status } @{ $options{accept} // [] };
    die $self->_sentence($words, $status, $error, $said);
}

# Runs a command and gives what it printed, as it is. Dies if it fails.
sub raw {
    my ($self, $words, %options) = @_;
    my ($status, $text, $said) = $self->run($words, %options);
    return $text if $status == 0;
    die $self->_sentence($words, $status, undef, $said);
}

sub _sentence {
    my ($self, $words, $status, $error, $said) = @_;
    my $command = "vmar $words->[0]";
    if ($error) {
        my @parts = ("$command: " . ($error->{message} // 'failed'));
        push @parts, "($error->{object})" if defined $error->{object};
        push @parts, "- $error->{advice}" if defined $error->{advice};
        return join(' ', @parts) . "\n";
    }
    my $last = (grep { /\S/ } split /\n/, $said)[-1] // "it ended with status $status";
    return "$command: $last\n";
}

# Gives (exit status, standard output as bytes, standard error as text). What comes on standard error goes to the log line
# by line. If this process dies, or the call is left by an exception, the command is ended too.
sub run {
    my ($self, $words, %options) = @_;
    pipe(my $out, my $out_end) or die "pipe: $!\n";
    pipe(my $err, my $err_end) or die "pipe: $!\n";
    local $SIG{CHLD} = 'DEFAULT';
    my $pid = $self->start($words, stdout => $out_end, stderr => $err_end);
    close $out_end;
    close $err_end;
    my ($text, $said) = ('', '');
    my $done = eval {
        $self->_collect($pid, $out, $err, \$text, \$said, $options{timeout});
        1;
    };
    my $why = $@;
    _stop($pid) if !$done;
    waitpid($pid, 0) if $done;
    my $status = $?;
    die $why if !$done;
    return ($status & 127 ? 128 + ($status & 127) : $status >> 8, $text, decode('UTF-8', $said));
}

sub _collect {
    my ($self, $pid, $out, $err, $text, $said, $timeout) = @_;
    my $select = IO::Select->new($out, $err);
    my $end = defined $timeout ? time() + $timeout : undef;
    my $line = '';
    while ($select->count) {
        my $left = defined $end ? $end - time() : undef;
        die "vmar gave no answer within $timeout seconds\n" if defined $left && $left <= 0;
        for my $handle ($select->can_read($left)) {
            my $count = sysread($handle, my $bytes, READ_BYTES);
            if (!$count) {
                next if !defined $count && $!{EINTR};
                $select->remove($handle);
                next;
            }
            if ($handle == $out) { $$text .= $bytes; next }
            $$said .= $bytes;
            $line .= $bytes;
            while ($line =~ s/\A([^\n\r]*)[\n\r]+//) { $self->_tell($1) }
        }
    }
    $self->_tell($line);
    return;
}

sub _tell {
    my ($self, $bytes) = @_;
    my $line = decode('UTF-8', $bytes);
    return if $line !~ /\S/;
    $self->{log}->($line =~ /warning:/ ? 'warn' : 'info', $line);
    return;
}

# Starts a command; handles: stdin, stdout, stderr. It gets SIGTERM when this process dies.
sub start {
    my ($self, $words, %handles) = @_;
    # Paths come from Proxmox's configuration, in which texts are bytes; words are characters.
    my @command = map { clean($_) } _path_bytes($self->{program}), '--datastore', _path_bytes($self->{datastore}),
        map { encode('UTF-8', $_) } @$words;
    my $environment = _environment();
    my $parent = $$;
    my $pid = fork() // die "fork: $!\n";
    return $pid if $pid;
    my $ok = eval {
        my $prctl = $PRCTL{ (POSIX::uname())[4] };
        syscall($prctl, $PR_SET_PDEATHSIG, $SIGTERM, 0, 0, 0) if $prctl;
        POSIX::_exit(130) if getppid() != $parent;
        $SIG{$_} = 'DEFAULT' for qw(INT TERM HUP PIPE QUIT ALRM);
        _redirect($handles{stdin}, 0);
        _redirect($handles{stdout}, 1);
        _redirect($handles{stderr}, 2);
        %ENV = %$environment;
        no warnings 'exec';
        exec { $command[0] } @command or die "$command[0] cannot be run: $!\n";
    };
    my $why = $@ || 'failed';
    syswrite(STDERR, $why) if !$ok;
    POSIX::_exit(127);
}

sub _path_bytes {
    my ($path) = @_;
    return utf8::is_utf8($path) ? encode('UTF-8', $path) : $path;
}

# Onto a descriptor; /dev/null where nothing is given.
sub _redirect {
    my ($handle, $descriptor) = @_;
    if (!$handle) {
        open($handle, $descriptor == 0 ? '<' : '>', '/dev/null') or die "/dev/null: $!\n";
    }
    POSIX::dup2(fileno($handle), $descriptor) // die "dup2: $!\n";
    return;
}

sub _environment {
    my %kept = map { defined $ENV{$_} ? ($_ => clean($ENV{$_})) : () } qw(HOME TZ VMAR_CACHE_DIR);
    return { HOME => '/root', PATH => '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', LANG => 'C.UTF-8', %kept };
}

# Proxmox's daemons run in taint mode. Nothing here goes through a shell, so any text may be a word.
sub clean {
    my ($word) = @_;
    die "a word for vmar is missing\n" if !defined $word;
    my ($clean) = $word =~ /\A([^\0]*)\z/s or die "a word for vmar holds a NUL\n";
    return $clean;
}

# Ends a process that was started here, and waits for it.
sub _stop {
    my ($pid) = @_;
    local ($?, $!, $@);
    kill 'TERM', $pid;
    return if _await_end($pid, STOP_SECONDS);
    kill 'KILL', $pid;
    waitpid($pid, 0);
    return;
}

sub _await_end {
    my ($pid, $seconds) = @_;
    for (1 .. $seconds * 50) {
        my $ended = waitpid($pid, POSIX::WNOHANG());
        return 1 if $ended == $pid || $ended == -1;
        select(undef, undef, undef, 0.02);
    }
    return 0;
}

# Whether a process that was started here has ended; then nothing is left of it.
sub has_ended {
    my ($self, $pid) = @_;
    local ($?, $!);
    return waitpid($pid, POSIX::WNOHANG()) != 0;
}

# The same for one that ends by itself now.
sub stop {
    my ($self, $pid) = @_;
    local ($?, $!, $@);
    local $SIG{CHLD} = 'DEFAULT';
    _stop($pid) if !_await_end($pid, END_SECONDS);
    return;
}

1;
