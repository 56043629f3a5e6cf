// SPDX-License-Identifier: MIT
// The Debian packages: their paths, and that what is in them works without this directory.

import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { seededRandom } from '../base/random.js';
import { haveTool, scratchDirectory } from '../base/scratch.js';

const directory = scratchDirectory();
const unpacked = join(directory, 'root');

function run(command: string, words: readonly string[], env: Record<string, string> = {}): string {
  const { status, stdout, stderr } = spawnSync(command, words, {
    ...{ cwd: directory, encoding: 'utf8', maxBuffer: 1 << 26 },
    env: { PATH: process.env.PATH ?? '', HOME: directory, TMPDIR: directory, ...env },
  });
  expect(`${status} ${stderr}`, `${command} ${words.join(' ')}`).toBe('0 ');
  return stdout;
}

describe.skipIf(!haveTool('dpkg-deb', 'the Debian packages'))('the Debian packages', () => {
  let packages: string[] = [];

  beforeAll(() => {
    packages = run(join(process.cwd(), 'scripts/make-deb.sh'), [directory]).trim().split('\n');
    for (const file of packages) run('dpkg-deb', ['-x', file, unpacked]);
  });

  it('have their files where Debian and Proxmox look for them', () => {
    const [programs, plugin] = packages.map((file) => run('dpkg-deb', ['-c', file])) as [string, string];
    expect(programs).toMatch(/root\/root .* \.\/usr\/bin\/vmar -> \.\.\/lib\/vmar\/dist\/bundle\/cli\/vmar\.js/);
    expect(programs).toMatch(/-rwxr-xr-x .*\.\/usr\/lib\/vmar\/dist\/bundle\/cli\/vma-restore\.js/);
    expect(programs).not.toMatch(/zstd\.a|zstd-napi\/deps|\/typescript\/|\/vitest\//);
    for (const file of [
      'PVE/Storage/Custom/VmarPlugin.pm',
      'PVE/BackupProvider/Plugin/Vmar.pm',
      'Vmar/Program.pm',
      'Vmar/Record.pm',
      'Vmar/Server.pm',
      'Vmar/Volume.pm',
    ]) {
      expect(plugin).toMatch(new RegExp(`-rw-r--r-- root/root .* \\./usr/share/perl5/${file}`));
    }
    for (const name of ['vmar', 'vmar-proxmox']) {
      expect(existsSync(join(unpacked, 'usr/share/doc', name, 'copyright'))).toBe(true);
    }
  });

  it('say what they need', () => {
    const [programs, plugin] = packages.map((file) => run('dpkg-deb', ['-f', file])) as [string, string];
    const { version } = JSON.parse(readFileSync('package.json', 'utf8'));
    expect(programs).toMatch(new RegExp(`^Version: ${version}$`, 'm'));
    expect(programs).toMatch(/^Depends: nodejs \(>= 20\.19\), libc6 \(>= 2\.34\), libgcc-s1, libstdc\+\+6$/m);
    expect(plugin).toMatch(new RegExp(`^Depends: vmar \\(= ${version}\\), perl, libpve-storage-perl$`, 'm'));
    expect(plugin).toMatch(/^Architecture: all$/m);
    for (const script of ['postinst', 'postrm']) {
      const text = run('dpkg-deb', ['-I', packages[1]!, script]);
      writeFileSync(join(directory, script), text);
      run('sh', ['-n', join(directory, script)]);
      expect(text).toContain('try-reload-or-restart pvedaemon');
    }
  });

  it('work from where they are unpacked', () => {
    const link = join(unpacked, 'usr/bin/vmar');
    expect(readlinkSync(link)).toBe('../lib/vmar/dist/bundle/cli/vmar.js');
    expect(run(link, ['--version'])).toMatch(/^vmar \d+\.\d+\.\d+\n$/);
    expect(run(join(unpacked, 'usr/bin/vma-restore'), ['--version'])).toMatch(/^vma-restore \d/);
    writeFileSync(join(directory, 'disk.raw'), seededRandom(1).bytes(300_000));
    const env = { VMAR_DATASTORE: join(directory, 'store'), VMAR_CACHE_DIR: join(directory, 'cache') };
    run(link, ['--quiet', 'init', env.VMAR_DATASTORE], env);
    run(link, ['--quiet', 'backup', '1', '--disk', 'scsi0=disk.raw'], env);
    run(link, ['--quiet', 'export', '1', '--output', 'one.vma'], env);
    run('sh', ['-c', `gzip one.vma && '${link}' --quiet import one.vma.gz --guest 2`], env);
    expect(JSON.parse(run(link, ['--json', 'verify'], env))).toMatchObject({ ok: true, checked: { backups: 2 } });
  });

  it('hold Perl that compiles beside the base classes', () => {
    if (!haveTool('perl', 'the Perl files of the package')) return;
    const paths = [join(unpacked, 'usr/share/perl5'), join(process.cwd(), 'test/proxmox/stand-in')];
    const includes = paths.flatMap((path) => ['-I', path]);
    for (const file of ['PVE/Storage/Custom/VmarPlugin.pm', 'PVE/BackupProvider/Plugin/Vmar.pm']) {
      const { status, stderr } = spawnSync('perl', ['-T', ...includes, '-c', join(paths[0]!, file)], {
        encoding: 'utf8',
      });
      expect(`${status} ${stderr}`).toMatch(/^0 .*syntax OK/);
    }
  });
});
