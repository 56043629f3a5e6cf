// SPDX-License-Identifier: MIT
// What the numbers were measured on.
import { readFileSync } from 'node:fs';
import { availableParallelism, cpus, release, totalmem } from 'node:os';
import { outputOf } from './contenders.mjs';

/** The flags that decide how fast hashes are. */
const FLAGS = ['avx2', 'avx512f', 'avx512vl', 'sha_ni', 'vaes'];

const firstLine = (text) => text?.trim().split('\n')[0];

export function machineLines(directory) {
  const flags =
    readFileSync('/proc/cpuinfo', 'utf8')
      .match(/^flags\s*: (.*)$/m)?.[1]
      .split(' ') ?? [];
  const shown = FLAGS.map((flag) => (flags.includes(flag) ? flag : `no ${flag}`)).join(', ');
  const fileSystem = firstLine(outputOf('findmnt', '-n', '-o', 'FSTYPE', '-T', directory)) ?? 'unknown';
  const memory = Math.round(totalmem() / 2 ** 30);
  return [
    `- CPU: ${cpus()[0]?.model.trim() ?? 'unknown'}, ${availableParallelism()} cores (${shown})`,
    `- memory: ${memory} GiB; kernel ${release()}; file system of the benchmark directory: ${fileSystem}`,
  ];
}

export function versionLines() {
  const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'));
  const commit = firstLine(outputOf('git', 'rev-parse', '--short', 'HEAD'));
  const tools = [
    `vmar ${version}${commit ? ` (${commit})` : ''}`,
    `Node.js ${process.version}`,
    firstLine(outputOf('zstd', '--version'))
      ?.match(/v[\d.]+/)?.[0]
      .replace('v', 'zstd '),
    firstLine(outputOf('borg', '--version')),
    firstLine(outputOf('restic', 'version'))?.split(' ').slice(0, 2).join(' '),
  ];
  return [`- ${tools.filter(Boolean).join(', ')}`];
}
