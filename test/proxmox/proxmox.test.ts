// SPDX-License-Identifier: MIT
// The plugin for Proxmox VE, installed as install.sh does it and called by a Perl test in Proxmox's order.

import { spawn, spawnSync } from 'node:child_process';
import { chmodSync, existsSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { haveTool, scratchDirectory } from '../base/scratch.js';

const TOOLS = ['perl', 'prove', 'qemu-storage-daemon', 'qemu-img', 'qemu-io'];
const MOST_MILLIS = 400_000;

const haveAll = TOOLS.map((tool) => haveTool(tool, 'the plugin for Proxmox VE')).every(Boolean);
describe.skipIf(!haveAll)('the plugin for Proxmox VE', () => {
  const directory = scratchDirectory();
  const install = (...words: string[]) =>
    spawnSync('plugins/proxmox/install.sh', words, { env: { ...process.env, DESTDIR: directory }, encoding: 'utf8' });
  const modules = join(directory, 'usr/share/perl5');

  it('does all that Proxmox asks of it', { timeout: MOST_MILLIS }, async () => {
    expect(install()).toMatchObject({ status: 0 });
    const vmar = join(directory, 'vmar.sh');
    writeFileSync(vmar, `#!/bin/sh\nexec '${process.execPath}' '${process.cwd()}/dist/bundle/cli/vmar.js' "$@"\n`);
    chmodSync(vmar, 0o755);
    const paths = [modules, 'test/proxmox/stand-in', 'test/proxmox/lib'].flatMap((path) => ['-I', path]);
    const { status, output } = await run('prove', ['-v', '-T', ...paths, 'test/proxmox/proxmox.t'], {
      ...{ ...process.env, VMAR_PROGRAM: vmar, TZ: 'UTC' },
      PERL5LIB: '',
    });
    expect(status, output).toBe(0);
    expect(output).toContain('All tests successful');
  });

  it('is removed without a trace', () => {
    expect(install()).toMatchObject({ status: 0 });
    expect(existsSync(join(modules, 'PVE/Storage/Custom/VmarPlugin.pm'))).toBe(true);
    expect(install('--remove')).toMatchObject({ status: 0 });
    const left = readdirSync(modules, { recursive: true, encoding: 'utf8' });
    expect(left.filter((name) => statSync(join(modules, name)).isFile())).toEqual([]);
    expect(install('--other')).toMatchObject({ status: 1 });
  });
});

async function run(command: string, words: readonly string[], env: NodeJS.ProcessEnv) {
  const child = spawn(command, words, { env, stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (bytes: Buffer) => {
      output += bytes.toString();
    });
  }
  const status = await new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  return { status, output };
}
