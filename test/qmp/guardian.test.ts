// SPDX-License-Identifier: MIT
// Proves: a guest that was paused is continued, with all steps taken back, when a step fails and when whoever wanted them
// is killed at any of them.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { runGuarded } from '#vmar/src/qmp/guardian.js';
import type { WindowPlan, WindowStep } from '#vmar/src/qmp/window-plan.js';
import { scratchDirectory } from '../base/scratch.js';
import { fakeAgent } from './fake-agent.js';
import { type FakeServer, fakeMonitor } from './fake-line-server.js';

const path = join(scratchDirectory(), 'qmp');
const ROOT = fileURLToPath(new URL('../../dist/', import.meta.url));
const GUARDIAN = join(ROOT, 'bundle/cli/qmp-guardian.js');

const drive = (qomPath: string, value: string) =>
  ({ execute: 'qom-set', arguments: { path: qomPath, property: 'drive', value } }) as const;
const step = (name: string): WindowStep => ({ do: drive(name, 'filter'), undo: drive(name, 'image') });
const PLAN: WindowPlan = {
  monitor: { kind: 'socket', path },
  pause: true,
  mark: 'mark',
  steps: [step('a'), step('b'), step('c')],
  commandMillis: 5000,
};

/** What was asked, in short: "a=filter", "stop". */
function asked({ lines }: FakeServer): string[] {
  return lines
    .map((line) => JSON.parse(line))
    .filter(({ execute }) => execute !== 'qmp_capabilities' && execute !== 'query-status')
    .map(({ execute, arguments: given }) => (execute === 'qom-set' ? `${given.path}=${given.value}` : execute));
}

function answer(command: string): object {
  return command === 'query-status' ? { return: { running: true, status: 'running' } } : { return: {} };
}

const ALL = ['blockdev-add', 'stop', 'a=filter', 'b=filter', 'c=filter', 'cont', 'blockdev-del'];

describe('the guardian', () => {
  it('does the steps while the guest stands still', async () => {
    const fake = await fakeMonitor(path, (command, socket) => {
      const at = command === 'stop' ? 100 : command === 'cont' ? 142 : undefined;
      const event = command === 'stop' ? 'STOP' : 'RESUME';
      if (at) socket.write(`{"event":"${event}","timestamp":{"seconds":1,"microseconds":${at}}}\n`);
      return answer(command);
    });
    expect(await runGuarded(GUARDIAN, PLAN)).toMatchObject({ frozen: false, pausedMicros: 42 });
    expect(asked(fake)).toEqual(ALL);
  });

  it('leaves a guest alone that stands still already', async () => {
    const fake = await fakeMonitor(path, (command) =>
      command === 'query-status' ? { return: { running: false, status: 'paused' } } : { return: {} },
    );
    expect(await runGuarded(GUARDIAN, PLAN)).toMatchObject({ pausedMicros: 0 });
    expect(asked(fake)).toEqual(ALL.filter((command) => command !== 'stop' && command !== 'cont'));
  });

  it('lets a guest be that was shut down before it stood still', async () => {
    const fake = await fakeMonitor(path, (command) => {
      if (command === 'cont') return { error: { class: 'GenericError', desc: 'Resetting the VM is required' } };
      const isFirst = fake.lines.filter((line) => line.includes('query-status')).length === 1;
      if (command === 'query-status' && !isFirst) return { return: { running: false, status: 'shutdown' } };
      return answer(command);
    });
    expect(await runGuarded(GUARDIAN, PLAN)).toMatchObject({ frozen: false });
    expect(asked(fake)).toEqual(ALL);
  });

  it('tells no pause of less than nothing, though the clock was set back', async () => {
    await fakeMonitor(path, (command, socket) => {
      const event = command === 'stop' ? 'STOP' : command === 'cont' ? 'RESUME' : undefined;
      const timestamp = { seconds: command === 'stop' ? 2 : 1, microseconds: 0 };
      if (event) socket.write(`${JSON.stringify({ event, timestamp })}\n`);
      return answer(command);
    });
    expect(await runGuarded(GUARDIAN, PLAN)).toMatchObject({ pausedMicros: 0 });
  });

  it('takes a freeze of no file systems for none, and thaws', async () => {
    await fakeMonitor(path, answer);
    const agent = await fakeAgent(`${path}-agent`, 1, 0);
    const plan = { ...PLAN, agent: { path: `${path}-agent`, syncMillis: 5000, freezeMillis: 5000 } };
    const notFrozen = 'the agent froze no file system';
    expect(await runGuarded(GUARDIAN, plan)).toMatchObject({ frozen: false, notFrozen });
    expect(agent.asked).toEqual(['guest-fsfreeze-freeze', 'guest-fsfreeze-thaw']);
  });

  it('takes the steps back when one fails, and continues', async () => {
    const fake = await fakeMonitor(path, (command) => {
      const tried = fake.lines.filter((line) => line.includes('qom-set')).length;
      if (command === 'qom-set' && tried === 3) return { error: { class: 'GenericError', desc: 'no' } };
      return answer(command);
    });
    await expect(runGuarded(GUARDIAN, PLAN)).rejects.toMatchObject({ code: 'qmp-command-failed' });
    expect(asked(fake)).toEqual([...ALL.slice(0, 5), 'b=image', 'a=image', 'cont', 'blockdev-del']);
  });

  it('names the disk that QEMU takes no filter for', async () => {
    await fakeMonitor(path, (command) =>
      command === 'qom-set' ? { error: { class: 'GenericError', desc: 'no filters here' } } : answer(command),
    );
    const steps = [{ ...step('a'), disk: 'scsi0' }];
    await expect(runGuarded(GUARDIAN, { ...PLAN, steps })).rejects.toMatchObject({
      code: 'disk-not-possible',
      message: expect.stringMatching(/^disk scsi0 cannot be backed up .* no filters here/),
      advice: expect.stringContaining('--exclude scsi0'),
    });
  });

  it.each(['blockdev-add', 'stop', 'a', 'b', 'c'])('when its parent is killed during %s', async (where) => {
    let parent: ReturnType<typeof spawn> | undefined;
    const fake = await fakeMonitor(path, (command, socket, id) => {
      const last = asked(fake).at(-1) ?? '';
      if (!(last === where || last === `${where}=filter`)) return answer(command);
      parent?.kill('SIGKILL');
      // The answer comes when the parent is gone.
      setTimeout(() => socket.write(`${JSON.stringify({ return: {}, id })}\n`), 300);
      return undefined;
    });
    const script = `import { runGuarded } from ${JSON.stringify(join(ROOT, 'src/qmp/guardian.js'))};
      await runGuarded(${JSON.stringify(GUARDIAN)}, ${JSON.stringify(PLAN)});`;
    parent = spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: 'ignore' });
    await once(parent, 'exit');
    for (let turn = 0; turn < 500 && asked(fake).at(-1) !== 'blockdev-del'; turn++) await delay(10);
    const all = asked(fake);
    expect(all.at(-1)).toBe('blockdev-del');
    if (all.includes('stop')) expect(all.at(-2)).toBe('cont');
    const inserted = all.filter((one) => one.endsWith('=filter')).map((one) => one.slice(0, 1));
    expect(all.filter((one) => one.endsWith('=image')).map((one) => one.slice(0, 1))).toEqual(inserted.reverse());
    expect(inserted.includes('c')).toBe(where === 'c');
  });
});
