// SPDX-License-Identifier: MIT
// Proves: commands go through virsh as libvirt wants them, and each way in which virsh fails is told. Against a stand-in
// for virsh.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { VirshMonitor } from '#vmar/src/qmp/virsh-monitor.js';
import { scratchDirectory } from '../base/scratch.js';

const directory = scratchDirectory();

const QUERY = `'qemu-monitor-command' '--' 'web' '{"execute":"query-status","arguments":{}}'`;
const RUNNING = '{"return":{"running":true,"status":"running"},"id":"libvirt-7"}';

/** A shell that does `script` for each command in `$line`, and prints the commands again, as one with readline does. */
function virsh(script: string, prompt = `printf 'virsh # %s\\n' "$line"`): VirshMonitor {
  const command = join(directory, 'virsh');
  const lines = [
    '#!/bin/sh',
    '[ "$*" = --quiet ] || exit 9',
    `while IFS= read -r line; do ${prompt}`,
    `case "$line" in "echo "*) eval "$line" | tr -d '\\n' ;; *)`,
    `${script} ;;`,
    'esac; done',
  ];
  writeFileSync(command, `${lines.join('\n')}\n`, { mode: 0o755 });
  return new VirshMonitor('web', { command, commandMillis: 5000 });
}

describe('VirshMonitor', () => {
  it.each([
    ['prints commands again', undefined],
    ['prints only prompts', "printf 'virsh # '"],
    ['prints no prompts', ':'],
  ])('passes commands on and decodes the answers of a virsh that %s', async (_name, prompt) => {
    const monitor = virsh(`[ "$line" = ${JSON.stringify(QUERY).replaceAll('$', '\\$')} ] && echo '${RUNNING}'`, prompt);
    for (let time = 0; time < 3; time++) {
      expect(await monitor.execute('query-status', {})).toEqual({ running: true, status: 'running' });
    }
    await monitor.close();
    await expect(monitor.execute('query-status', {})).rejects.toMatchObject({ code: 'qmp-lost' });
  });

  it('asks one process for all', async () => {
    const monitor = virsh(`echo '{"return":{"qemu":{"major":7,"minor":2,"micro":'$$'},"package":""}}'`);
    const first = await monitor.execute('query-version', {});
    expect(await monitor.execute('query-version', {})).toEqual(first);
    await monitor.close();
  });

  it.each([
    ['refusal', `echo '{"id":"libvirt-8","error":{"class":"GenericError","desc":"no"}}'`, 'qmp-command-failed'],
    ['failure', 'echo "error: failed to get domain" >&2', 'qmp-missing'],
    ['an end', 'echo "error: disconnected" >&2; exit 1', 'qmp-missing'],
    ['nonsense', 'echo hello', 'qmp-bad-answer'],
    ['nothing', 'true', 'qmp-missing'],
    ['a flood', 'yes', 'qmp-bad-answer'],
  ])('tells of %s', async (_name, script, code) => {
    const monitor = virsh(script);
    await expect(monitor.execute('stop', {})).rejects.toMatchObject({ code });
    await monitor.close();
  });

  it('says what virsh said', async () => {
    const monitor = virsh('echo "error: failed to get domain" >&2');
    const answer = expect(monitor.execute('stop', {})).rejects.toThrow('failed to get domain');
    // Both pipes have all of it before this thread looks at either.
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 300);
    await answer;
    await monitor.close();
  });

  it('gives up on one that hangs and goes on with another, and on one that is not there', async () => {
    const hanging = virsh(`case "$line" in *stop*) sleep 60 ;; *) echo '${RUNNING}' ;; esac`);
    await expect(hanging.execute('stop', {}, { timeoutMillis: 50 })).rejects.toMatchObject({ code: 'qmp-timeout' });
    expect(await hanging.execute('query-status', {})).toMatchObject({ running: true });
    await hanging.close();
    const missing = new VirshMonitor('web', { command: join(directory, 'none') });
    await expect(missing.execute('stop', {})).rejects.toMatchObject({ code: 'qmp-missing' });
  });
});
