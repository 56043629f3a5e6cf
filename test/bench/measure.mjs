// SPDX-License-Identifier: MIT
// One timed section, the same for every contender.
import { readFileSync } from 'node:fs';

/**
 * Runs commands one after the other; gives the wall time of all together, from the start of each process to its end, the
 * peak RSS of the largest, and the standard output of the first. Before that the files in `warm`, and under directories in
 * it, are read into the page cache, and everything dirty is written back.
 */
export async function timed(workplace, commands, { warm = [], cwd, env } = {}) {
  await warmUp(workplace, warm);
  await workplace.run('sync', []);
  const rssFile = workplace.join('rss');
  const outputs = [];
  let seconds = 0;
  let rssBytes = 0;
  for (const [command, ...args] of commands) {
    const start = performance.now();
    const words = ['-q', '-f', '%M', '-o', rssFile, command, ...args];
    outputs.push((await workplace.run('/usr/bin/time', words, { cwd, env })).stdout);
    seconds += (performance.now() - start) / 1000;
    rssBytes = Math.max(rssBytes, Number(readFileSync(rssFile, 'utf8').trim()) * 1024);
  }
  return { seconds, rssBytes, stdout: outputs[0] };
}

async function warmUp(workplace, paths) {
  for (const path of paths)
    await workplace.run('find', [path, '-type', 'f', '-exec', 'sh', '-c', 'cat "$@" >/dev/null', 'cat', '{}', '+']);
}

/** What the files under a directory hold, as `du --apparent-size` counts. */
export async function storedBytes(workplace, directory) {
  const { stdout } = await workplace.run('du', ['-sb', '--apparent-size', directory]);
  return Number(stdout.split('\t')[0]);
}

export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}
