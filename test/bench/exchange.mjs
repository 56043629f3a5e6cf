// SPDX-License-Identifier: MIT
// The exchange part of the benchmark: import of .vma beside backup of the same disk, export beside restore of the same
// backup, and the memory that a shuffled .vma takes. Its targets, and the text for docs/BENCHMARKS-EXCHANGE.md.
import { rm } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { measuredMemory } from './exchange/shuffled.mjs';
import { median, timed } from './measure.mjs';
import { orderOf } from './rounds.mjs';
import { table } from './table.mjs';
import './environment.mjs';

const VMAR = fileURLToPath(new URL('../../dist/bundle/cli/vmar.js', import.meta.url));
const RSS_LIMIT_BYTES = 400e6;
const CLUSTER_SIZES = ['64KiB', '4MiB'];

/** What is timed: its words, what is warm before, and what it is set against. */
const STEPS = [
  { name: 'backup of the image', into: true, words: ({ image }) => ['backup', '100', '--disk', `disk=${image}`] },
  { name: 'import of .vma', into: true, against: 'backup of the image', ...importOf('vma') },
  { name: 'import of .vma.zst', into: true, against: 'backup of the image', ...importOf('zst') },
  { name: 'import of .vma.gz', into: true, ...importOf('gz') },
  { name: 'restore to a file', words: ({ file }) => ['restore', '100', '--disk', `disk=${file('out.raw')}`] },
  {
    name: 'export to a .vma',
    against: 'restore to a file',
    words: ({ file }) => ['export', '100', '--output', file('out.vma')],
  },
  { name: 'export to .vma, a pipe', against: 'restore to a file', piped: 'vma' },
  { name: 'export to tar, a pipe', piped: 'tar' },
  { name: 'export to .vmar, a pipe', piped: 'vmar' },
];

function importOf(kind) {
  return { words: (places) => ['import', places[kind], '--guest', '100'], reads: kind };
}

export async function exchangeReport(workplace, image, rounds, gib, say) {
  const home = workplace.join('exchange');
  const places = await prepare(workplace, image, home);
  const played = [];
  for (let round = 0; round < rounds; round++) {
    const results = {};
    for (const step of orderOf(round, STEPS)) results[step.name] = await play(workplace, places, step);
    say(
      `exchange, round ${round + 1}: ${STEPS.map(({ name }) => `${name} ${results[name].seconds.toFixed(2)} s`).join(', ')}`,
    );
    played.push(results);
  }
  await rm(home, { recursive: true });
  const memory = [];
  for (const clusterSize of CLUSTER_SIZES) {
    memory.push({ clusterSize, ...(await measuredMemory(workplace, { gib, clusterSize, vmar: VMAR })) });
    say(`exchange, shuffled ${gib} GiB, ${clusterSize}: ${JSON.stringify(memory.at(-1))}`);
  }
  return textOf(played, memory, gib);
}

/** A datastore with a backup of the image, and that backup as files to import. */
async function prepare(workplace, image, home) {
  const file = (name) => `${home}-${name}`;
  const env = { VMAR_DATASTORE: home, VMAR_CACHE_DIR: file('cache') };
  const [vma, zst, gz] = ['vma', 'vma.zst', 'vma.gz'].map((extension) => file(`in.${extension}`));
  const run = async (...words) => await workplace.run(process.execPath, [VMAR, '--quiet', ...words], { env });
  await run('init', home);
  await run('backup', '100', '--disk', `disk=${image}`);
  await run('export', '100', '--output', vma);
  await workplace.run('zstd', ['-q', '-1', vma, '-o', zst]);
  await workplace.run('sh', ['-c', `gzip -1 < ${vma} > ${gz}`]);
  return { image, vma, zst, gz, file, env, home };
}

async function play(workplace, places, { into, words, piped, reads }) {
  const { env, home, file } = places;
  const fresh = file('fresh');
  const node = [process.execPath, VMAR, '--quiet'];
  if (into) await workplace.run(process.execPath, [VMAR, '--quiet', 'init', fresh], { env });
  const command = piped
    ? [
        'bash',
        '-o',
        'pipefail',
        '-c',
        `"$@" --format ${piped} --output - | cat > /dev/null`,
        'bash',
        ...node,
        'export',
        '100',
      ]
    : [...node, ...words(places)];
  const result = await timed(workplace, [command], {
    warm: [into ? (reads ? places[reads] : places.image) : home],
    env: into ? { ...env, VMAR_DATASTORE: fresh } : env,
  });
  for (const path of [fresh, file('out.raw'), file('out.vma')]) await rm(path, { recursive: true, force: true });
  return result;
}

function textOf(rounds, memory, gib) {
  const targets = STEPS.filter(({ against }) => against).map(({ name, against }) => {
    const ratio = median(rounds.map((round) => round[against].seconds / round[name].seconds));
    return [`${name}, speed ÷ ${against}`, '≥ 0.80', ratio.toFixed(2), ratio >= 0.8 ? 'met' : 'NOT MET'];
  });
  for (const { clusterSize, rssBytes } of memory) {
    const verdict = rssBytes <= RSS_LIMIT_BYTES ? 'met' : 'NOT MET';
    const what = `peak RSS, import of a shuffled ${gib} GiB .vma, clusters of ${clusterSize}`;
    targets.push([what, '≤ 400 MB', `${Math.round(rssBytes / 1e6)} MB`, verdict]);
  }
  const rows = STEPS.map(({ name }) => {
    const seconds = rounds.map((round) => round[name].seconds);
    const spread = `${median(seconds).toFixed(2)} (${Math.min(...seconds).toFixed(2)}–${Math.max(...seconds).toFixed(2)})`;
    return [name, spread, Math.round(Math.max(...rounds.map((round) => round[name].rssBytes)) / 1e6)];
  });
  for (const { clusterSize, seconds, rssBytes } of memory) {
    rows.push([
      `import of a shuffled ${gib} GiB, clusters of ${clusterSize}`,
      seconds.toFixed(2),
      Math.round(rssBytes / 1e6),
    ]);
  }
  return [table(['target', 'wanted', 'measured', ''], targets), '', table(['', 's', 'peak RSS, MB'], rows)].join('\n');
}
