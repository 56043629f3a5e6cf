// SPDX-License-Identifier: MIT
// The live part of the benchmark: NBD, serve, live restore; its targets, and the text for docs/BENCHMARKS.md.
import { median } from '../measure.mjs';
import { table } from '../table.mjs';
import { firstRead } from './first-read.mjs';
import { guestLatency } from './guest-latency.mjs';
import { nbdSpeed } from './nbd-speed.mjs';
import { serveRead } from './serve-read.mjs';

const ROUNDS = 3;

/** Which rows of the comparison with qemu-nbd are targets, and how they are called in the table. */
const HALF_OF_QEMU = [
  ['fio: read, 1 MiB in order, 4 at once', 'NBD server, 1 MiB reads ÷ qemu-nbd'],
  ['fio: write, 1 MiB in order, 4 at once', 'NBD server, 1 MiB writes ÷ qemu-nbd'],
  ['nbdcopy: read', 'NBD server, nbdcopy reads ÷ qemu-nbd'],
  ['nbdcopy: write', 'NBD server, nbdcopy writes ÷ qemu-nbd'],
  ['fio: read, 4 KiB anywhere, 16 at once', 'NBD server, 4 KiB random reads ÷ qemu-nbd'],
];

export async function liveReport(workplace, image, say) {
  const repeat = async (name, measure) => {
    const results = [];
    for (let round = 0; round < ROUNDS; round++) results.push(await measure());
    say(`${name}: ${JSON.stringify(results)}`);
    return results;
  };
  const first = median(await repeat('first read', () => firstRead(workplace)));
  const served = await repeat('serve', () => serveRead(workplace, image));
  const felt = await repeat('guest', () => guestLatency(workplace, image));
  const nbd = await nbdSpeed(workplace);
  for (const { name, ours, theirs, unit } of nbd) say(`${name}: ${Math.round(ours)}, ${Math.round(theirs)} ${unit}`);

  const serve = median(served.map((round) => round.restore / round.serve));
  const [during, after] = ['during', 'after'].map((when) => median(felt.map((round) => round[when].p99Millis)));
  const limit = Math.max(5, 3 * after);
  const targets = [
    row('live restore of 1 TiB sparse, to the first read', '< 1 s', `${first.toFixed(2)} s`, first < 1),
    ...HALF_OF_QEMU.map(([name, what]) => {
      const { ratio } = nbd.find((job) => job.name === name);
      return row(what, '≥ 0.50', ratio.toFixed(2), ratio >= 0.5);
    }),
    row('vmar serve, throughput ÷ vmar restore', '≥ 0.70', serve.toFixed(2), serve >= 0.7),
    row(
      'guest 4 KiB writes, p99 while the disk is filled',
      `≤ ${limit.toFixed(1)} ms`,
      `${during.toFixed(1)} ms`,
      during <= limit,
    ),
  ];
  return [
    table(['target', 'wanted', 'measured', ''], targets),
    '',
    `p99 of the guest's writes once the disk is filled: ${after.toFixed(2)} ms.`,
    '',
    table(
      ['NBD server over a raw file', 'vmar', 'qemu-nbd', 'ratio'],
      nbd.map(({ name, unit, ours, theirs, ratio }) => [
        `${name}, ${unit}`,
        Math.round(ours),
        Math.round(theirs),
        ratio.toFixed(2),
      ]),
    ),
  ].join('\n');
}

function row(what, target, measured, met) {
  return [what, target, measured, met ? 'met' : 'NOT MET'];
}
