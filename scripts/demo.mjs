// SPDX-License-Identifier: MIT
// Two nights of one guest: makes real disk images, backs them up, lists, verifies, restores, compares.
// Exit status 0 only if every restored disk is its image, bit for bit. VMAR_DEMO_DIR says where there is room.
import { existsSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { fileURLToPath } from 'node:url';
import { styleText } from 'node:util';
import { humanSize as size } from '../dist/src/cli/human.js';
import { makeFirstNight, makeSecondNight, ROOM_BYTES } from './demo-images.mjs';
import { checkFileSystem } from './make-image.mjs';
import { directoryWithRoom, Workplace } from './workplace.mjs';

const VMAR = fileURLToPath(new URL('../dist/bundle/cli/vmar.js', import.meta.url));
const DISKS = ['system', 'data'];
const colours = process.stdout.isTTY === true && !process.env.NO_COLOR;
const paint = (style, text) => (colours ? styleText(style, text) : text);

function heading(text) {
  console.log(`\n${paint('bold', text)}`);
}

function show(text) {
  for (const line of text.trimEnd().split('\n')) console.log(`  ${line}`);
}

/** Prints a vmar command as a user types it, runs it, and gives its standard output. */
async function vmar(workplace, words, { quiet = false } = {}) {
  console.log(`${paint('dim', '$')} ${paint('cyan', `vmar ${words}`)}`);
  const env = { VMAR_DATASTORE: workplace.join('store'), VMAR_CACHE_DIR: workplace.join('cache') };
  const { stdout } = await workplace.run(process.execPath, [VMAR, ...words.split(' ')], { env, stderr: 'inherit' });
  if (!quiet && stdout.trim() !== '') show(stdout);
  return stdout;
}

async function backUp(workplace, night) {
  const disks = DISKS.map((name) => `--disk ${name}=night${night}/${name}.raw`).join(' ');
  const result = JSON.parse(await vmar(workplace, `--json backup 100 ${disks}`, { quiet: true }));
  const disksText = result.disks.map((disk) => `  ${JSON.stringify(disk)}`).join(',\n');
  show(`{"backup": "${result.backup}", "seconds": ${result.seconds}, "disks": [\n${disksText}]}`);
  return result;
}

/** Restores a backup and compares; gives whether every disk is the same. */
async function restoreAndCompare(workplace, backup, night) {
  await vmar(workplace, `restore ${backup} --to restored${night}`);
  let same = true;
  for (const name of DISKS) {
    const pair = [`night${night}/${name}.raw`, `restored${night}/${name}.raw`];
    const { status, stdout } = await workplace.run('cmp', pair, { allowed: [0, 1] });
    const bytes = statSync(workplace.join(pair[0])).size;
    const verdict = status === 0 ? paint('green', `the same, ${bytes} bytes`) : paint('red', stdout.trim());
    console.log(`${paint('dim', '$')} ${paint('cyan', `cmp ${pair.join(' ')}`)}\n  ${verdict}`);
    same &&= status === 0;
  }
  return same;
}

function printTable(nights) {
  const rows = [['night', 'read', 'zero', 'new', 'stored', 'ratio', 'seconds']];
  for (const [n, { disks, seconds }] of nights.entries()) {
    const sum = (field) => disks.reduce((total, disk) => total + disk[field], 0);
    const ratio = sum('stored') === 0 ? '-' : `${(sum('read') / sum('stored')).toFixed(1)} : 1`;
    const sizes = ['read', 'zero', 'new', 'stored'].map((field) => size(sum(field)));
    rows.push([String(n + 1), ...sizes, ratio, seconds.toFixed(1)]);
  }
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  for (const [n, row] of rows.entries()) {
    const line = row.map((cell, column) => cell.padStart(widths[column])).join('   ');
    console.log(n === 0 ? paint('bold', line) : line);
  }
  console.log(paint('dim', 'new: what the datastore lacked; stored: that, compressed; ratio: read to stored'));
}

async function main() {
  if (!existsSync(VMAR)) throw new Error('vmar is not built; npm run demo builds it, and so does npm run build');
  const directories = process.env.VMAR_DEMO_DIR ? [process.env.VMAR_DEMO_DIR] : [tmpdir(), '/var/tmp'];
  const parent = directoryWithRoom(directories, ROOM_BYTES, 'VMAR_DEMO_DIR');
  return demonstrate(new Workplace(parent, 'vmar-demo-'));
}

async function demonstrate(workplace) {
  console.log(`Two nights of one guest, in ${workplace.path} (removed at the end)`);
  const files = await makeFirstNight(workplace);
  const { size: bytes, blocks } = statSync(workplace.join('night1/system.raw'));
  console.log(
    `night 1: system.raw, ${bytes} bytes (${size(blocks * 512)} in use), an ext4 file system with ${files.length} files; data.raw`,
  );
  const changes = await makeSecondNight(workplace, files);
  console.log(
    `night 2: the same disks; in the file system ${changes.removed} files removed, ${changes.changed} changed, ${changes.added} added`,
  );

  heading('Back up, twice');
  console.log(`${paint('dim', '$')} ${paint('cyan', 'export VMAR_DATASTORE=$PWD/store VMAR_CACHE_DIR=$PWD/cache')}`);
  await vmar(workplace, 'init store');
  const nights = [await backUp(workplace, 1), await backUp(workplace, 2)];

  heading('Look, verify');
  await vmar(workplace, 'list');
  await vmar(workplace, 'verify');

  heading('Restore, compare');
  const first = await restoreAndCompare(workplace, nights[0].backup, 1);
  const second = await restoreAndCompare(workplace, '100/latest', 2);
  console.log(`${paint('dim', '$')} ${paint('cyan', 'e2fsck -fn restored2/system.raw')}`);
  show(await checkFileSystem((...a) => workplace.run(...a), 'restored2/system.raw'));

  console.log('');
  printTable(nights);
  const same = first && second;
  console.log(
    same ? paint('green', '\nEvery restored disk is its image, bit for bit.') : paint('red', '\nDISKS DIFFER.'),
  );
  return same ? 0 : 1;
}

process.stdout.on('error', () => process.exit(1)); // who reads has gone
try {
  process.exitCode = await main();
} catch (error) {
  console.error(`\ndemo: ${error instanceof Error ? error.message : error}`);
  process.exitCode = 1;
}
