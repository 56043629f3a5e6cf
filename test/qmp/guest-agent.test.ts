// SPDX-License-Identifier: MIT
// Proves: an agent that answers is understood, one that does not costs its time-out and no more.

import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { GuestAgent } from '#vmar/src/qmp/guest-agent.js';
import { scratchDirectory } from '../base/scratch.js';
import { fakeServer } from './fake-line-server.js';

const path = join(scratchDirectory(), 'agent');

/** Answers as qemu-ga does, but for the commands that `answer` takes. */
function agentAt(answer: (command: string) => object | undefined) {
  return fakeServer(
    path,
    // What another asked before, and never read.
    (socket) => socket.write('{"return": {}}\n{"ret'),
    (line, socket) => {
      const { execute, arguments: given } = JSON.parse(line.replace('\xff', ''));
      if (execute === 'guest-sync-delimited') socket.write(`\n\xff{"return": ${given.id}}\n`, 'latin1');
      else {
        const said = answer(execute);
        if (said) socket.write(`${JSON.stringify(said)}\n`);
      }
    },
  );
}

describe('GuestAgent', () => {
  it('freezes and thaws, after dropping what was not for it', async () => {
    const fake = await agentAt((command) => ({ return: command === 'guest-fsfreeze-status' ? 'frozen' : 3 }));
    const agent = await GuestAgent.open(path);
    expect(await agent.freeze(1000)).toBe(3);
    expect(await agent.freezeStatus(1000)).toBe('frozen');
    expect(await agent.thaw(1000)).toBe(3);
    expect(fake.lines[0]!.charCodeAt(0)).toBe(0xff);
    agent.close();
    await expect(agent.thaw(1000)).rejects.toMatchObject({ code: 'agent-lost' });
  });

  it('is silent when it does not answer', async () => {
    await fakeServer(path, () => {});
    await expect(GuestAgent.open(path, { syncMillis: 50 })).rejects.toMatchObject({ code: 'agent-silent' });
  });

  it('is not taken for a monitor where there is no socket at all', async () => {
    await expect(GuestAgent.open(scratchDirectory())).rejects.toMatchObject({
      code: 'not-agent',
      message: 'this is not the socket of a guest agent, but a directory',
    });
  });

  it('gives up on a freeze, and thaws all the same', async () => {
    const fake = await agentAt((command) => (command === 'guest-fsfreeze-freeze' ? undefined : { return: 1 }));
    const agent = await GuestAgent.open(path);
    await expect(agent.freeze(30)).rejects.toMatchObject({ code: 'agent-silent' });
    // In the place of the freeze's answer: that one comes first.
    fake.sockets[0]!.write('{"return": 7}\n');
    expect(await agent.thaw(1000)).toBe(1);
    agent.close();
  });

  it('keeps the reason of a refusal', async () => {
    await agentAt(() => ({ error: { class: 'GenericError', desc: 'The command has been disabled' } }));
    const agent = await GuestAgent.open(path);
    await expect(agent.freeze(1000)).rejects.toMatchObject({
      code: 'agent-refused',
      message: 'the guest agent refused guest-fsfreeze-freeze: The command has been disabled',
    });
    agent.close();
  });

  it('is lost when its socket goes away', async () => {
    const fake = await agentAt(() => undefined);
    const agent = await GuestAgent.open(path);
    const freezing = agent.freeze(10_000);
    fake.sockets[0]!.destroy();
    await expect(freezing).rejects.toMatchObject({ code: 'agent-lost' });
  });
});
