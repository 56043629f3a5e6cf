// SPDX-License-Identifier: MIT
// One round of one contender: both nights into a fresh repository, then restore and verify.
import { mkdir, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { storedBytes, timed } from './measure.mjs';

/** The steps, in their order; a contender that has no command for one leaves it out. */
export const STEPS = ['full', 'next', 'restore', 'verify'];

/**
 * Gives `{ full, next, restore, verify: { seconds, rssBytes, ownSeconds? }, storedBytes? }`. With `compare`, also checks
 * (untimed) that the restored disk is night 2's image, and rejects if it is not.
 */
export async function playRound(workplace, contender, images, { compare }) {
  const home = workplace.join('round');
  await mkdir(`${home}/out`, { recursive: true });
  const env = contender.environment(home);
  const step = async (name, options) => {
    const { stdout, ...result } = await timed(workplace, contender[name](home), { ...options, env });
    return contender.ownSeconds && (name === 'full' || name === 'next')
      ? { ...result, ownSeconds: contender.ownSeconds(stdout) }
      : result;
  };

  const result = {};
  for (const [command, ...args] of contender.prepare?.(home) ?? []) await workplace.run(command, args, { env });
  result.full = await step('full', { warm: [images.night1], cwd: dirname(images.night1) });
  if (contender.next) {
    result.next = await step('next', { warm: [images.night2], cwd: dirname(images.night2) });
    result.storedBytes = await storedBytes(workplace, `${home}/repository`);
  }
  if (contender.restore) {
    result.restore = await step('restore', { warm: [`${home}/repository`], cwd: `${home}/out` });
    if (compare) await workplace.run('cmp', [images.night2, `${home}/out/disk.raw`]);
    await rm(`${home}/out/disk.raw`);
  }
  if (contender.verify) result.verify = await step('verify', { warm: [`${home}/repository`] });
  await rm(home, { recursive: true });
  return result;
}

/** The order of a round: forwards, then backwards, so that a machine that gets slower or faster favours nobody. */
export function orderOf(round, all) {
  return round % 2 === 0 ? all : [...all].reverse();
}

/** Peak RSS of every step for one image, the second backup being of the same, unchanged image. */
export async function peakMemory(workplace, contender, image) {
  const home = workplace.join('memory');
  await mkdir(`${home}/out`, { recursive: true });
  const cwd = workplace.join('memory-image');
  await mkdir(cwd);
  await workplace.run('ln', ['-s', image, `${cwd}/disk.raw`]);
  const env = contender.environment(home);
  const peaks = {};
  for (const [command, ...args] of contender.prepare(home)) await workplace.run(command, args, { env });
  for (const name of STEPS) peaks[name] = (await timed(workplace, contender[name](home), { cwd, env })).rssBytes;
  await rm(home, { recursive: true });
  await rm(cwd, { recursive: true });
  return peaks;
}
