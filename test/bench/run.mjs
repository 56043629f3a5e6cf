// SPDX-License-Identifier: MIT
// npm run bench: vmar beside a bare loop, zstd, borg and restic, in one run. The method is in docs/BENCHMARKS.md.
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { directoryWithRoom, Workplace } from '../../scripts/workplace.mjs';
import { contenders } from './contenders.mjs';
import { exchangeReport } from './exchange.mjs';
import { benchImages, recipeFor, roomFor } from './image.mjs';
import { liveReport } from './live/report.mjs';
import { report } from './report.mjs';
import { orderOf, peakMemory, playRound, STEPS } from './rounds.mjs';
import { writeBetween } from './table.mjs';
import { judge } from './targets.mjs';
import './environment.mjs';

const page = (name) => fileURLToPath(new URL(`../../docs/${name}`, import.meta.url));
const PAGE = page('BENCHMARKS.md');
const EXCHANGE_PAGE = page('BENCHMARKS-EXCHANGE.md');
const USAGE = `usage: npm run bench -- [--part PART] [--rounds N] [--data-mib N] [--gib N] [--no-write]
  --part PART    backup (beside borg and others), live (NBD, serve, live restore), exchange (.vma in and out), or all
  --gib N        of the shuffled .vma of the exchange part (8)
  --rounds N     rounds (3); the tables show medians
  --data-mib N   MiB of real files in the image (1536)
  --no-write     print only, leave docs/BENCHMARKS*.md alone
VMAR_BENCH_DIR is where the images are kept and the work is done (/var/tmp/vmar-bench).`;

const say = (text) => console.error(`bench: ${text}`);

function readArguments() {
  const { values } = parseArgs({
    options: {
      part: { type: 'string', default: 'all' },
      rounds: { type: 'string', default: '3' },
      'data-mib': { type: 'string', default: '1536' },
      gib: { type: 'string', default: '8' },
      'no-write': { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    console.log(USAGE);
    process.exit(0);
  }
  const [rounds, dataMib, gib] = [Number(values.rounds), Number(values['data-mib']), Number(values.gib)];
  if (!(Number.isInteger(rounds) && rounds >= 1 && Number.isInteger(dataMib) && dataMib >= 16 && gib > 0))
    throw new TypeError('numbers');
  if (!['backup', 'live', 'exchange', 'all'].includes(values.part)) throw new TypeError('part');
  return { part: values.part, rounds, dataMib, gib, write: !values['no-write'] };
}

function describe(result) {
  const steps = STEPS.filter((step) => result[step]).map((step) => `${step} ${result[step].seconds.toFixed(2)} s`);
  if (result.storedBytes) steps.push(`stored ${Math.round(result.storedBytes / 2 ** 20)} MiB`);
  return steps.join(', ');
}

async function main({ part, rounds, dataMib, gib, write }) {
  const base = process.env.VMAR_BENCH_DIR ?? '/var/tmp/vmar-bench';
  const recipe = recipeFor(dataMib);
  await mkdir(base, { recursive: true });
  const directory = directoryWithRoom([base], roomFor(recipe), 'VMAR_BENCH_DIR');
  const workplace = new Workplace(directory, 'run-');
  const images = await benchImages(workplace, join(directory, 'images'), recipe, say);
  const tell = (place, text, path = PAGE) => {
    console.log(text);
    if (write) writeBetween(path, place, text);
  };
  const isWanted = (name) => part === name || part === 'all';
  if (isWanted('backup')) tell('results', await backupReport(workplace, images, directory, rounds));
  if (isWanted('live')) tell('live', await liveReport(workplace, images.night1, say));
  if (isWanted('exchange')) {
    const { night1 } = images;
    tell('exchange', await exchangeReport(workplace, night1, rounds, gib, say), EXCHANGE_PAGE);
  }
}

async function backupReport(workplace, images, directory, roundCount) {
  const all = contenders();
  const rounds = [];
  for (let round = 0; round < roundCount; round++) {
    const results = {};
    for (const contender of orderOf(round, all)) {
      results[contender.name] = await playRound(workplace, contender, images, { compare: round === 0 });
      say(`round ${round + 1}, ${contender.name}: ${describe(results[contender.name])}`);
    }
    rounds.push(results);
  }

  const vmar = all.find((contender) => contender.name === 'vmar');
  const memory = {
    '64 GiB sparse': await peakMemory(workplace, vmar, images.big),
    '64 MiB': await peakMemory(workplace, vmar, images.small),
  };
  return report({
    rounds,
    names: all.map((contender) => contender.name),
    notes: all.filter((contender) => contender.note).map((contender) => `${contender.name}: ${contender.note}`),
    images,
    judged: judge(rounds, memory['64 GiB sparse']),
    memory,
    directory,
    date: new Date().toISOString().slice(0, 10),
  });
}

let chosen;
try {
  chosen = readArguments();
} catch {
  console.error(USAGE);
  process.exit(2);
}
try {
  await main(chosen);
  process.exit(0);
} catch (error) {
  say(error.message);
  process.exit(1);
}
