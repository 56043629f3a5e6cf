# SPDX-License-Identifier: MIT
# The storage plugin and its backup provider, called as Proxmox calls them: nights of a guest in a real qemu-storage-daemon
# into a real datastore and back, compared to the byte. Proxmox's own classes are stand-ins (test/proxmox/stand-in).
#
#   prove -T -I plugins/proxmox -I test/proxmox/stand-in -I test/proxmox/lib test/proxmox

use v5.28;
use warnings;

use File::Temp ();
use Test::More;

BEGIN { $ENV{PATH} = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'; delete @ENV{qw(IFS CDPATH ENV BASH_ENV)} }

use PVE::BackupProvider::Plugin::Base;
use PVE::Storage;
use PVE::Storage::Custom::VmarPlugin;
use PVE::Storage::Plugin;
use Proxmox::Guest;
use Proxmox::Host;
use Vmar::Program;

my ($VMAR) = ($ENV{VMAR_PROGRAM} // '') =~ /\A(.+)\z/s or plan skip_all => 'VMAR_PROGRAM does not say where vmar is';
my $CLUSTER = 65536;
my $SIZE = 160 * $CLUSTER + 3 * 512;
my $plugin = 'PVE::Storage::Custom::VmarPlugin';
my $base = File::Temp->newdir('vmar-pve-XXXXXX', TMPDIR => 1);
$base =~ /\A(.*)\z/s and my $dir = $1;
mkdir "$dir/$_" for qw(guest out state);
$ENV{VMAR_CACHE_DIR} = "$dir/cache";
$Vmar::Server::RUN_DIRECTORY = "$dir/run";
$Vmar::Record::STATE_DIRECTORY = "$dir/state/deep";

# Notes the words of each call, since some of them leave no other trace.
my $program = "$dir/vmar";
spew($program, "#!/bin/sh\nprintf '%s\\n' \"\$*\" >> '$dir/calls'\nexec $VMAR \"\$@\"\n");
chmod 0755, $program;

# As of a configuration file that was read in taint mode; its texts are bytes.
my $taint = substr($ENV{VMAR_PROGRAM}, 0, 0);
my $scfg = { path => "$dir/st\xc3\xb6re$taint", namespace => "pve$taint", 'vmar-program' => "$program$taint" };
my $host = Proxmox::Host->new(plugin => $plugin, scfg => $scfg, storeid => 'nightly');
my $guest = Proxmox::Guest->start("$dir/guest", $SIZE);
my $clock = 1_800_000_000;

sub spew { my ($path, $text) = @_; open(my $file, '>', $path) or die "$path: $!"; print {$file} $text; close $file; return }
sub slurp { my ($path) = @_; open(my $file, '<:raw', $path) or return ''; local $/ = undef; return scalar <$file> }
sub night { my (%options) = @_; $clock += 86400; return $host->vzdump($guest, start => $clock, save => "$dir/out/truth-$clock", %options) }
sub last_call { my ($command) = @_; return (grep { / \Q$command\E / } split /\n/, slurp("$dir/calls"))[-1] // '' }
sub volumes { return $plugin->list_volumes('nightly', $scfg, $_[0], ['backup']) }
sub name_of { my ($volid) = @_; return $volid =~ s/\A[^:]+://r }

sub restored_as {
    my ($night, $what) = @_;
    unlink "$dir/out/drive-scsi0.raw";
    my $restored = eval { $host->restore($night->{volid}, "$dir/out") };
    return fail("$what: $@") if !$restored;
    ok(slurp("$dir/out/drive-scsi0.raw") eq slurp($night->{truth}), $what);
    return $restored;
}

subtest 'what the plugin is' => sub {
    is($plugin->type, 'vmar', 'its type');
    ok($plugin->isa('PVE::Storage::Plugin'), 'a storage plugin');
    is($plugin->plugindata->{features}->{'backup-provider'}, 1, 'with a backup provider');
    is_deeply($plugin->plugindata->{content}, [{ backup => 1, none => 1 }, { backup => 1 }], 'for backups');
    for my $case ([10, 11], [11, 11], [12, 12], [13, 13], [99, 11]) {
        local $PVE::Storage::VERSION_OF_API = $case->[0];
        is($plugin->api, $case->[1], "API $case->[0]");
    }
    for my $property (keys %{ $plugin->properties }) { ok($plugin->options->{$property}, "$property can be set") }
    ok(defined &{"PVE::BackupProvider::Plugin::Vmar::$_"}, "provides $_") for @PVE::BackupProvider::Plugin::Base::OWED;
    is_deeply([$plugin->parse_volname('backup/vm/100/2026-11-21T02:00:00Z')],
        ['backup', 'vm/100/2026-11-21T02:00:00Z', '100', undef, undef, undef, 'vmar'], 'a volume');
    for my $bad ('backup/ct/100/2026-11-21T02:00:00Z', 'backup/vm/../2026-11-21T02:00:00Z', "backup/vm/1/2026-11-21T02:00:00Z\n", 'vm-1-disk-0') {
        ok(!eval { $plugin->parse_volname($bad) }, "no volume: $bad");
    }
    ok(!eval { $plugin->alloc_image('nightly', $scfg, 100, 'raw', 'x', 1); 1 }, 'no images');
    is_deeply($plugin->list_images('nightly', $scfg), [], 'none listed');
};

subtest 'no datastore, then one' => sub {
    ok(!eval { $plugin->activate_storage('nightly', $scfg, {}) }, 'is not activated');
    like($@, qr/no vmar datastore at .*vmar init/, 'says what to do');
    is_deeply([$plugin->status('nightly', $scfg, {})], [0, 0, 0, 0], 'is not active');
    ok(!eval { $plugin->on_add_hook('nightly', $scfg); 1 }, 'is not added');
    system($program, 'init', "$dir/st\xc3\xb6re") == 0 or die 'init';
    ok(eval { $plugin->on_add_hook('nightly', $scfg); 1 }, 'is added') or diag $@;
    ok($plugin->activate_storage('nightly', $scfg, {}), 'is activated');
    my ($total, $free, $used, $active) = $plugin->status('nightly', $scfg, {});
    ok($active && $total > 0 && $free > 0 && $used >= 0, 'tells its space');
    is_deeply(volumes(), [], 'is empty');
};

my @nights;
subtest 'nights, full and incremental' => sub {
    $guest->write([0, 40 * $CLUSTER, 1], [100 * $CLUSTER, 20 * $CLUSTER, 2], [$SIZE - 512, 512, 3]);
    my $config = "name: w\x{fc}rfel\nscsi0: local:100/vm-100-disk-0.raw,size=10M\n";
    utf8::encode($config);
    push @nights, night(config => $config, firewall => "[OPTIONS]\nenable: 1\n", limit => 123_456_789,
        meanwhile => sub { $guest->write([5 * $CLUSTER, 4096, 9]) });
    is($nights[0]->{error}, '', 'the first came off') or diag $host->log_text;
    is($nights[0]->{asked}, 'new', 'and asked for a new bitmap');
    cmp_ok($nights[0]->{size}, '>', 0, 'and took some space');
    like(last_call('backup'), qr/--speed 123456789 /, 'at the speed that was allowed');
    like(last_call('backup'), qr/--discard-source/, 'and freed what it had read');
    my $restored = restored_as($nights[0], 'it reads back');
    is($restored->{config}, $config, 'its configuration too');
    is($restored->{firewall}, "[OPTIONS]\nenable: 1\n", 'and that of its firewall');
    is_deeply($restored->{disks}, { 'drive-scsi0' => { size => $SIZE } }, 'and the size');

    $guest->write([7 * $CLUSTER + 512, 512, 4], [50 * $CLUSTER - 4096, 8192, 5], [$SIZE - 1024, 512, 6]);
    push @nights, night(log_first => 1, meanwhile => sub { $guest->write([8 * $CLUSTER, 512, 7]) });
    is($nights[1]->{error}, '', 'the second came off') or diag $host->log_text;
    is($nights[1]->{asked}, 'use', 'by the bitmap');
    like(last_call('backup'), qr{:reuse --parent pve/vm/100/}, 'which follows the first');
    like($host->log_text, qr/drive-scsi0: incremental, 0\.\d MiB of 10\.0 MiB read/, 'and read little');
    is(restored_as($nights[1], 'it reads back')->{firewall}, undef, 'and had no firewall');
    restored_as($nights[0], 'as the first does still');
    is(slurp($plugin->log_path($scfg, name_of($_->{volid}))), "INFO: the log\n", 'the log lies beside each') for @nights;
};

subtest 'a night that fails after its backup was made' => sub {
    $guest->write([70 * $CLUSTER, 512, 8]);
    my $failed = night(spoil => 1, log_first => 1);
    is($failed->{error}, "the host failed\n", 'fails');
    ok(!-e $plugin->log_path($scfg, name_of($failed->{volid})), 'leaves no log');
    is(scalar @{ volumes() }, 2, 'and is not kept');
    $guest->write([71 * $CLUSTER, 512, 8]);
    push @nights, night();
    is($nights[2]->{asked}, 'use', 'the next goes by the bitmap');
    is($nights[2]->{error}, '', 'comes off') or diag $host->log_text;
    restored_as($nights[2], 'and lacks nothing');
};

subtest 'a bitmap that cannot be relied on is not' => sub {
    $plugin->free_image('nightly', $scfg, name_of($nights[2]->{volid}));
    $guest->write([72 * $CLUSTER, 512, 8]);
    push @nights, night();
    is($nights[3]->{asked}, 'new', 'the backup that it follows was removed');
    restored_as($nights[3], 'the next is whole');
    my $id = 'pve/' . name_of($nights[3]->{volid}) =~ s{backup/}{}r =~ s{/[^/]*\z}{}r;
    system("$program --datastore '$dir/st\xc3\xb6re' --quiet backup $id --disk drive-scsi0=$dir/out/truth-$clock --time " . ($clock + 60)) == 0 or die;
    push @nights, night();
    is($nights[4]->{asked}, 'new', 'another backup came between');
    push @nights, night();
    is($nights[5]->{asked}, 'use', 'then it is relied on again');
    restored_as($nights[5], 'and that is whole');
    $guest->stop;
    $guest = Proxmox::Guest->start("$dir/guest", $SIZE);
    $guest->write([73 * $CLUSTER, 512, 8]);
    push @nights, night();
    is($nights[6]->{asked}, 'use', 'after a new start it is asked for');
    unlike(last_call('backup'), qr/reuse|--parent/, 'but is not there');
    restored_as($nights[6], 'and the backup is whole');
};

subtest 'a full night that fails begins no bitmap that counts' => sub {
    $plugin->free_image('nightly', $scfg, name_of((pop @nights)->{volid}));
    my $failed = night(spoil => 1);
    is_deeply([$failed->{asked}, $failed->{error}], ['new', "the host failed\n"], 'it fails');
    $guest->write([74 * $CLUSTER, 512, 8]);
    push @nights, night();
    is($nights[6]->{asked}, 'new', 'the next asks for a new one');
    restored_as($nights[6], 'and is whole');
};

subtest 'jobs of two guests at once' => sub {
    mkdir "$dir/other";
    my $other = Proxmox::Guest->start("$dir/other", $SIZE);
    $other->write([0, 3 * $CLUSTER, 33]);
    my $both = sub {
        my $start = shift;
        my $child = fork() // die;
        if (!$child) {
            my $result = Proxmox::Host->new(plugin => $plugin, scfg => $scfg, storeid => 'nightly')
                ->vzdump($other, vmid => 300, start => $start);
            spew("$dir/out/at-once", "$result->{asked} $result->{error}");
            POSIX::_exit(0);
        }
        my $night = night();
        waitpid $child, 0;
        return ($night, slurp("$dir/out/at-once"));
    };
    my ($night, $told) = $both->($clock);
    is($night->{error}, '', 'one comes off') or diag $host->log_text;
    is($told, 'new ', 'the other too');
    restored_as($night, 'and is itself');
    is(scalar @{ volumes(300) }, 1, 'each has its own');
    $host->restore(volumes(300)->[0]->{volid}, "$dir/out");
    my $content = slurp("$dir/out/drive-scsi0.raw");
    ok(substr($content, 0, 3 * $CLUSTER) eq chr(33) x (3 * $CLUSTER) && substr($content, 3 * $CLUSTER) !~ /[^\0]/, 'the other reads back');
    $plugin->free_image('nightly', $scfg, name_of(volumes(300)->[0]->{volid}));
    $plugin->free_image('nightly', $scfg, name_of($night->{volid}));
    $other->stop;
};

subtest 'one job of several guests has one provider' => sub {
    mkdir "$dir/$_" for qw(third fourth);
    my $third = Proxmox::Guest->start("$dir/third", $SIZE);
    my $fourth = Proxmox::Guest->start("$dir/fourth", $SIZE);
    $third->write([0, 2 * $CLUSTER, 44]);
    $fourth->write([0, 2 * $CLUSTER, 46]);
    my $provider = $host->provider;
    $clock += 86400;
    $provider->job_init($clock);
    my @first = map { $host->vzdump($_->[1], vmid => $_->[0], start => $clock, provider => $provider) } [301, $third], [302, $fourth];
    is_deeply([map { $_->{error} } @first], ['', ''], 'two come off');
    ok(!eval { $provider->backup_init(303, 'lxc', $clock); 1 }, 'a container between them does not');
    $provider->backup_cleanup(303, 'lxc', 0, { error => $@ });
    $provider->backup_handle_log_file(303, $program);
    $third->write([5 * $CLUSTER, 512, 45]);
    my $again = $host->vzdump($third, vmid => 301, start => $clock + 60, provider => $provider, save => "$dir/out/truth-third");
    $provider->job_cleanup;
    is_deeply([$again->{error}, $again->{asked}], ['', 'use'], 'and each has its own bitmap');
    restored_as($again, 'and content');
    for my $night (@first, $again) {
        is(slurp($plugin->log_path($scfg, name_of($night->{volid}))), "INFO: the log\n", 'and log');
        $plugin->free_image('nightly', $scfg, name_of($night->{volid}));
    }
    $_->stop for $third, $fourth;
};

subtest 'two jobs in one second, and no export' => sub {
    $clock -= 86400;
    push @nights, night();
    is($nights[7]->{error}, '', 'the second gets a time of its own');
    isnt($nights[7]->{volid}, $nights[6]->{volid}, 'and name');
    my $before = @{ volumes() };
    my $provider = $host->provider;
    $provider->job_init($clock);
    $provider->backup_init(101, 'qemu', $clock);
    my $volume = { size => $SIZE, 'bitmap-mode' => 'none', 'nbd-path' => "$dir/nowhere.sock" };
    ok(!eval { $provider->backup_vm(101, "name: x\n", { 'drive-scsi0' => $volume }, {}); 1 }, 'nothing there fails');
    like($@, qr/vmar backup: .*NBD server/, 'with a reason');
    $provider->backup_cleanup(101, 'qemu', 0, { error => $@ });
    $provider->backup_handle_log_file(101, __FILE__);
    is_deeply([glob "$dir/st\xc3\xb6re/state/proxmox-logs/pve/vm/101/*"], [], 'has no log to lie beside anything');
    $provider->backup_cleanup(undef, undef, 0, {});
    $provider->job_cleanup;
    is(scalar @{ volumes() }, $before, 'and leaves nothing');
};

subtest 'what a host may be like' => sub {
    {
        local $Vmar::Record::STATE_DIRECTORY = "$dir/calls";
        my $night = night();
        is($night->{error}, '', 'nothing can be written down: the backup comes off');
        cmp_ok($night->{size}, '>=', 0, 'and is cleaned up') or diag $host->log_text;
        like($host->log_text, qr/warn: the next backup will be full, .*Not a directory/, 'and that is said');
        $plugin->free_image('nightly', $scfg, name_of($night->{volid}));
    }
    my $without = { %$scfg, 'vmar-program' => "$dir/nowhere" };
    ok(!eval { $plugin->archives($without); 1 }, 'without vmar nothing is listed');
    like($@, qr{\Avmar list: .*/nowhere cannot be run: No such file}, 'and that is said');

    my $before = @{ volumes() };
    spew("$dir/dies", "#!/bin/sh\ncase \"\$*\" in *' backup '*) kill -9 \$\$;; esac\nexec '$program' \"\$@\"\n");
    chmod 0755, "$dir/dies";
    my $dying = Proxmox::Host->new(plugin => $plugin, scfg => { %$scfg, 'vmar-program' => "$dir/dies" }, storeid => 'nightly');
    my $killed = $dying->vzdump($guest, start => $clock + 3600);
    is($killed->{error}, "vmar backup: it ended with status 137\n", 'a vmar that is killed is told of');
    is(scalar @{ volumes() }, $before, 'and leaves nothing');
};

subtest 'containers are refused' => sub {
    my $provider = $host->provider;
    for my $call (sub { $provider->backup_init(200, 'lxc', $clock) }, sub { $provider->backup_get_mechanism(200, 'lxc') },
        sub { $provider->backup_container(200) }, sub { $provider->backup_container_prepare(200) }) {
        ok(!eval { $call->(); 1 }, 'not done');
        like($@, qr/virtual machines only, and 200 is a container/, 'said');
    }
    my @warned;
    local $SIG{__WARN__} = sub { push @warned, @_ };
    ok(!eval { $provider->backup_init(200, undef, $clock); 1 }, 'what nobody knows is not done');
    is_deeply(\@warned, [], 'and nothing is undefined');
    ok(!eval { $provider->restore_container_init('backup/vm/100/2026-11-21T02:00:00Z'); 1 }, 'nor restored');
};

subtest 'volumes' => sub {
    my $volumes = volumes(100);
    is(scalar @$volumes, 8, 'are listed');
    my ($first) = grep { $_->{volid} eq $nights[0]->{volid} } @$volumes;
    my $epoch = 1_800_000_000 + 86400;
    is_deeply($first, { volid => $nights[0]->{volid}, format => 'vmar', content => 'backup', subtype => 'qemu',
        size => $SIZE, vmid => 100, ctime => $epoch }, 'with what Proxmox shows');
    is_deeply(volumes(999), [], 'by guest');
    is_deeply($plugin->list_volumes('nightly', $scfg, undef, ['images']), [], 'by content');
    my $name = name_of($first->{volid});
    my ($size, $format, $used, $parent, $ctime) = $plugin->volume_size_info($scfg, 'nightly', $name, 5);
    is_deeply([$size, $format, $parent, $ctime], [$SIZE, 'vmar', undef, $epoch], 'one by one');
    is(scalar $plugin->volume_size_info($scfg, 'nightly', $name), $SIZE, 'the size alone');
    my ($path, $vmid, $type) = $plugin->path($scfg, $name, 'nightly');
    ok(-f $path, 'lie somewhere');
    is_deeply([$vmid, $type], [100, 'backup'], 'are of a guest');
    ok($plugin->activate_volume('nightly', $scfg, $name, undef, {}), 'can be activated');
    ok(!eval { $plugin->activate_volume('nightly', $scfg, 'backup/vm/100/2020-01-01T00:00:00Z') }, 'if they are there');

    my $notes = "before the update \x{2013} \x{201c}good\x{201d}\nline two";
    $plugin->update_volume_attribute($scfg, 'nightly', $name, 'notes', $notes);
    is($plugin->get_volume_attribute($scfg, 'nightly', $name, 'notes'), $notes, 'have notes');
    is((grep { $_->{volid} eq $first->{volid} } @{ volumes() })[0]->{notes}, $notes, 'which are listed');
    $plugin->update_volume_notes($scfg, 'nightly', $name, '');
    is($plugin->get_volume_notes($scfg, 'nightly', $name), '', 'and go');

    $plugin->update_volume_attribute($scfg, 'nightly', $name, 'protected', 1);
    is($plugin->get_volume_attribute($scfg, 'nightly', $name, 'protected'), 1, 'are protected');
    is((grep { $_->{protected} } @{ volumes() })[0]->{volid}, $first->{volid}, 'which is listed');
    ok(!eval { $plugin->free_image('nightly', $scfg, $name); 1 }, 'and then not removed');
    like($@, qr/protected/, 'for that reason');
    ok(!eval { $plugin->update_volume_attribute($scfg, 'nightly', $name, 'colour', 1); 1 }, 'have no colour');
    is($plugin->get_volume_attribute($scfg, 'nightly', $name, 'colour'), undef, 'at all');
};

subtest 'pruning' => sub {
    my $keep = { 'keep-last' => 2 };
    my $list = $plugin->prune_backups($scfg, 'nightly', $keep, 100, 'qemu', 1, sub { });
    is(scalar(grep { $_->{mark} eq 'keep' } @$list), 2, 'would keep two');
    is_deeply([map { $_->{volid} } grep { $_->{mark} eq 'protected' } @$list], [$nights[0]->{volid}], 'and the protected');
    is(scalar @{ volumes() }, 8, 'but removes nothing when asked only');
    is_deeply($plugin->prune_backups($scfg, 'nightly', $keep, 999, 'qemu', 0, sub { }), [], 'no guest, nothing');
    is_deeply($plugin->prune_backups($scfg, 'nightly', $keep, 100, 'lxc', 0, sub { }), [], 'no container');
    is(scalar(grep { $_->{mark} eq 'remove' } @{ $plugin->prune_backups($scfg, 'nightly', {}, undef, undef, 0) }), 0, 'no rule, nothing');
    my @said;
    $plugin->prune_backups($scfg, 'nightly', $keep, 100, undef, 0, sub { push @said, "@_" });
    is(scalar @{ volumes() }, 3, 'removes');
    ok(scalar(grep { /removed backup 'nightly:backup/ } @said), 'and says so');
    $plugin->update_volume_attribute($scfg, 'nightly', name_of($nights[0]->{volid}), 'protected', 0);
    my $log = $plugin->log_path($scfg, name_of($nights[0]->{volid}));
    like(slurp($log), qr/the log/, 'the log of a backup is kept');
    $plugin->free_image('nightly', $scfg, name_of($nights[0]->{volid}));
    ok(!-e $log, 'and goes with it');
    $plugin->sweep_logs($scfg);
    is(scalar(grep { -e $plugin->log_path($scfg, name_of($_->{volid})) } @nights[1 .. 3]), 0, 'also if others removed it');
};

subtest 'a restore leaves nothing behind' => sub {
    my $volname = name_of($nights[7]->{volid});
    my @left = glob "$dir/run/*";
    is("@left", '', 'after those that ended');
    my $provider = $host->provider;
    $provider->restore_vm_init($volname);
    ok(!eval { $provider->restore_vm_volume_init($volname, 'drive-scsi9', {}) }, 'a disk that is not there is refused');
    my $pid = $provider->{server}->{pid};
    undef $provider;
    ok(!kill(0, $pid), 'an object that goes away takes its server along');

    $provider = $host->provider;
    $provider->restore_vm_init($volname);
    kill 'KILL', $provider->{server}->{pid};
    for (1 .. 200) { last if !eval { $provider->restore_vm_volume_init($volname, 'drive-scsi0', {}) }; select(undef, undef, undef, 0.05) }
    like($@, qr/vmar serve has ended/, 'a server that was killed is told of');
    ok(eval { $provider->restore_vm_cleanup($volname); 1 }, 'and cleaned up');

    my $ends = '$p = $host->provider; $p->restore_vm_init($ARGV[2]); exit 0';
    my $script = 'use PVE::Storage::Custom::VmarPlugin; use Proxmox::Host; $Vmar::Server::RUN_DIRECTORY = $ARGV[0];'
        . '$host = Proxmox::Host->new(plugin => "PVE::Storage::Custom::VmarPlugin", storeid => "nightly",'
        . 'scfg => { path => "$ARGV[0]/../st\xc3\xb6re", namespace => "pve", "vmar-program" => $ARGV[1] });' . $ends;
    my ($perl) = $^X =~ /(.+)/;
    my @words = ($perl, map({ /(.+)/ ? "-I$1" : () } @INC), '-e', $script, "$dir/run", $program, $volname);
    open(my $said, '-|', 'sh', '-c', 'exec 2>&1; "$@"', 'sh', @words) or die;
    my $text = do { local $/ = undef; <$said> } // '';
    close $said;
    unlike($text, qr/in cleanup|global destruction/, 'a process that ends without a word has nothing to warn of');

    pipe(my $read, my $write);
    my $child = fork() // die;
    if (!$child) {
        my $other = $host->provider;
        $other->restore_vm_init($volname);
        syswrite $write, "$other->{server}->{pid}\n";
        sleep 60;
        POSIX::_exit(0);
    }
    ($pid) = readline($read) =~ /(\d+)/;
    ok(kill(0, $pid), 'a server of another process');
    kill 'KILL', $child;
    waitpid $child, 0;
    for (1 .. 200) { last if !kill(0, $pid) || slurp("/proc/$pid/stat") =~ /\) Z /; select(undef, undef, undef, 0.05) }
    ok(!kill(0, $pid) || slurp("/proc/$pid/stat") =~ /\) Z /, 'goes when that is killed');
    @left = glob "$dir/run/*";
    is("@left", '', 'with its socket');
    ok(!eval { $host->provider->restore_vm_init('backup/vm/100/2020-01-01T00:00:00Z') }, 'no backup, no restore');
};

is(system($program, '--datastore', "$dir/st\xc3\xb6re", '--quiet', 'verify'), 0, 'the datastore is sound');
$guest->stop;
done_testing();
