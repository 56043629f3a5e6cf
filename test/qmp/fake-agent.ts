// SPDX-License-Identifier: MIT
// Speaks as qemu-ga does, as long as the test wants it to.

import { type FakeServer, fakeServer } from './fake-line-server.js';

export interface FakeAgent {
  /** What was asked of it, syncs left out. */
  readonly asked: string[];
  readonly server: FakeServer;
}

/**
 * @param freezeMillis how long a freeze takes; undefined: it is never answered
 * @param fileSystems how many it says that it froze
 */
export async function fakeAgent(path: string, freezeMillis: number | undefined, fileSystems = 2): Promise<FakeAgent> {
  const asked: string[] = [];
  let frozen = false;
  const server = await fakeServer(
    path,
    () => {},
    (line, socket) => {
      const { execute, arguments: given } = JSON.parse(line.replace('\xff', ''));
      const say = (value: unknown) => socket.write(`${JSON.stringify({ return: value })}\n`);
      if (execute === 'guest-sync-delimited') {
        socket.write(`\xff{"return": ${given.id}}\n`, 'latin1');
        return;
      }
      asked.push(execute);
      if (execute === 'guest-fsfreeze-freeze') {
        frozen = true;
        if (freezeMillis !== undefined) setTimeout(() => say(fileSystems), freezeMillis);
      } else if (execute === 'guest-fsfreeze-thaw') {
        frozen = false;
        say(2);
      } else say(frozen ? 'frozen' : 'thawed');
    },
  );
  return { asked, server };
}
