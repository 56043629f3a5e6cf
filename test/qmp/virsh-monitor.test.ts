// SPDX-License-Identifier: MIT
// Proves: commands go through virsh as libvirt wants them, and each way in which virsh fails is told. Against a stand-in
// for virsh.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { VirshMonitor } from '#vmar/src/qmp/virsh-monitor.js';
import { scratchDirectory } from '../base/scratch.js';

const directory = scratchDirectory();

function virsh(script: string): VirshMonitor {
  const command = join(directory, 'virsh');
  writeFileSync(command, `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  return new VirshMonitor('web', { command, commandMillis: 5000 });
}

describe('VirshMonitor', () => {
  it('passes the command on, and decodes the answer', async () => {
    const monitor = virsh(`[ "$1 $2 $3" = "qemu-monitor-command -- web" ] || exit 9
      [ "$4" = '{"execute":"query-status","arguments":{}}' ] || exit 8
      echo '{"return":{"running":true,"status":"running"},"id":"libvirt-7"}'`);
    expect(await monitor.execute('query-status', {})).toEqual({ running: true, status: 'running' });
    await monitor.close();
    await expect(monitor.execute('query-status', {})).rejects.toMatchObject({ code: 'qmp-lost' });
  });

  it.each([
    ['refusal', `echo '{"id":"libvirt-8","error":{"class":"GenericError","desc":"no"}}'`, 'qmp-command-failed'],
    ['failure', 'echo "error: failed to get domain" >&2; exit 1', 'qmp-missing'],
    ['nonsense', 'echo hello', 'qmp-bad-answer'],
    ['nothing', 'true', 'qmp-bad-answer'],
    ['a flood', 'yes', 'qmp-bad-answer'],
  ])('tells of %s', async (_name, script, code) => {
    await expect(virsh(script).execute('stop', {})).rejects.toMatchObject({ code });
  });

  it('gives up on one that hangs, and on one that is not there', async () => {
    const hanging = virsh('exec sleep 60');
    await expect(hanging.execute('stop', {}, { timeoutMillis: 50 })).rejects.toMatchObject({ code: 'qmp-timeout' });
    const missing = new VirshMonitor('web', { command: join(directory, 'none') });
    await expect(missing.execute('stop', {})).rejects.toMatchObject({ code: 'qmp-missing' });
  });
});
