// SPDX-License-Identifier: MIT
// `vmar serve` read whole by nbdcopy, beside `vmar restore` of the same backup to a file.
import { rm } from 'node:fs/promises';
import { Vmar } from './vmar.mjs';

/** Gives `{ serve, restore }` in seconds: serve from the start of nbdcopy, restore from the start of its process. */
export async function serveRead(workplace, image) {
  const home = workplace.join('serve');
  const [target, socket] = ['target.raw', 'socket'].map((name) => `${home}-${name}`);
  const vmar = new Vmar(workplace, home);
  await vmar.backUp(image);

  const restore = await timed(() => vmar.run('restore', '100', '--disk', `disk=${target}`));
  const serving = vmar.start('vmar', 'serve', '100', '--socket', socket);
  await serving.event(() => true);
  const serve = await timed(() => workplace.run('nbdcopy', [`nbd+unix:///disk?socket=${socket}`, 'null:']));
  await serving.stop();
  for (const path of [home, target, socket]) await rm(path, { recursive: true, force: true });
  return { serve, restore };
}

async function timed(action) {
  const start = performance.now();
  await action();
  return (performance.now() - start) / 1000;
}
