// SPDX-License-Identifier: MIT
// What the guest does while it is backed up and restored, and how it feels to it: fio writes 4 KiB blocks at random places
// of the data disk, and a ledger grows on both disks.

import type { Json } from '../cli/bench.js';
import type { SerialConsole } from './console.js';

export interface Felt {
  readonly writes: number;
  readonly perSecond: number;
  /** From a write's submission to its completion, as the guest's clock has it; that stands still with the guest. */
  readonly medianMillis: number;
  readonly p99Millis: number;
  readonly mostMillis: number;
}

/** Shortly after it was written, each block is read back and compared. */
const COMPARING = '--verify=crc32c --verify_backlog=64 --verify_fatal=1';

const FIO = [
  ...['fio', '--name=load', '--filename=/data/load', '--size=32M', '--rw=randwrite', '--bs=4k', '--direct=1'],
  ...['--thread', '--ioengine=libaio', '--iodepth=4', '--randrepeat=0', '--time_based', '--runtime=3600'],
  ...['--output-format=json', '--output=/tmp/load.json'],
].join(' ');

/** fio takes seconds to begin on a slow machine, and a signal that it gets until then it forgets. */
const HAS_WRITTEN = "grep -q '^write_bytes: [1-9]' /proc/$load/io 2>/dev/null";

/** Asked again where it does not hear, but not too soon: what it says of a signal may stand in the midst of its results. */
const END = `while [ -d /proc/$load ]; do
  kill -INT $load 2>/dev/null
  for _ in 1 2 3 4 5 6 7 8 9 10; do [ ! -d /proc/$load ] || sleep 1; done
done; wait $load; true`;

/** Writes at random from now until `end`, which fails if a write failed, or what was compared was wrong. */
export async function startWriting(
  console: SerialConsole,
  { compare = false }: { readonly compare?: boolean } = {},
): Promise<{ end(): Promise<Felt> }> {
  // The file is laid out first: only then do writes count.
  await console.do(`[ -e /data/load ] || ${FIO} --runtime=1 >/dev/null`);
  await console.do(`${FIO} ${compare ? COMPARING : ''} >/dev/null 2>/tmp/load.err & load=$!`);
  await console.do(`until ${HAS_WRITTEN}; do kill -0 $load || break; sleep 0.2; done; kill -0 $load`);
  return {
    end: async () => {
      await console.do(END);
      await console.do('[ ! -s /tmp/load.err ] || { cat /tmp/load.err; false; }');
      return felt(await console.do('cat /tmp/load.json'));
    },
  };
}

function felt(text: string): Felt {
  const document: Json = JSON.parse(text.slice(text.indexOf('{'), text.lastIndexOf('}') + 1));
  const { error, write } = document.jobs[0];
  if (error !== 0) throw new Error(`fio in the guest: error ${error}`);
  const percentiles = write.clat_ns.percentile;
  return {
    writes: write.total_ios,
    perSecond: write.iops,
    medianMillis: percentiles['50.000000'] / 1e6,
    p99Millis: percentiles['99.000000'] / 1e6,
    mostMillis: write.clat_ns.max / 1e6,
  };
}

export function tellFelt(when: string, { writes, perSecond, medianMillis, p99Millis, mostMillis }: Felt): void {
  const millis = [medianMillis, p99Millis, mostMillis].map((one) => one.toFixed(2)).join(' / ');
  console.info(`${when}: ${writes} writes, ${perSecond.toFixed(0)}/s, median / 99 % / worst ${millis} ms`);
}

export async function startLedger(console: SerialConsole): Promise<void> {
  await console.do('ledger >/dev/null 2>&1 & while [ ! -e /run/acknowledged ]; do sleep 0.1; done');
}

/** The last number that is durable on both disks. */
export async function acknowledged(console: SerialConsole): Promise<number> {
  const { status } = await console.run('[ -e /run/ledger-failed ]');
  if (status === 0) throw new Error(`the guest's ledger failed: ${await console.do('cat /run/ledger-failed')}`);
  return Number(await console.do('cat /run/acknowledged'));
}

/** What the kernel says of its disks and file systems when they fail. */
export async function expectNoIoErrors(console: SerialConsole): Promise<void> {
  const { output } = await console.run(
    "dmesg | grep -iE 'i/o error|ext4-fs (error|warning)|aborting journal|timed out'",
  );
  if (output !== '') throw new Error(`the guest's disks failed:\n${output}`);
}
