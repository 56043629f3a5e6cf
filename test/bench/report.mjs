// SPDX-License-Identifier: MIT
// From numbers to the text that is printed and written to docs/BENCHMARKS.md.
import { machineLines, versionLines } from './machine.mjs';
import { median } from './measure.mjs';
import { STEPS } from './rounds.mjs';
import { table } from './table.mjs';

const STEP_NAMES = { full: 'full backup', next: 'next night', restore: 'restore', verify: 'verify' };
const mib = (bytes) => `${Math.round(bytes / 2 ** 20)} MiB`;
const verdict = (met) => (met === undefined ? '–' : met ? 'met' : 'NOT MET');

function secondsCell(results) {
  if (results.some((result) => result === undefined)) return '–';
  const seconds = results.map((result) => result.seconds);
  const [low, high] = [Math.min(...seconds), Math.max(...seconds)].map((value) => value.toFixed(2));
  return `${median(seconds).toFixed(2)} (${low}–${high})`;
}

function timesTable(rounds, names) {
  const rows = STEPS.map((step) => [
    `${STEP_NAMES[step]}, s`,
    ...names.map((name) => secondsCell(rounds.map((round) => round[name][step]))),
  ]);
  const peak = (round, name) => Math.max(...STEPS.map((step) => round[name][step]?.rssBytes ?? 0));
  rows.push(
    [
      'stored, both nights',
      ...names.map((name) => (rounds[0][name].storedBytes ? mib(median(rounds.map((r) => r[name].storedBytes))) : '–')),
    ],
    ['peak RSS, MB', ...names.map((name) => Math.round(Math.max(...rounds.map((r) => peak(r, name))) / 1e6))],
  );
  return table(['', ...names], rows);
}

function ownClockLine(rounds, step) {
  const own = median(rounds.map((round) => round.vmar[step].ownSeconds));
  return `${STEP_NAMES[step]} ${own.toFixed(2)} s`;
}

/** The whole text, Markdown. */
export function report({ rounds, names, notes, images, judged, memory, directory, date }) {
  const targets = judged.map(({ what, target, measured, met }) => [what, target, measured, verdict(met)]);
  const memoryRows = Object.entries(memory).map(([name, peaks]) => [
    name,
    ...STEPS.map((step) => Math.round(peaks[step] / 1e6)),
  ]);
  const bound = median(rounds.map((round) => images.dataBytes / 1e6 / round['bound loop'].full.ownSeconds));
  return [
    `Measured ${date}, ${rounds.length} ${rounds.length === 1 ? 'round' : 'rounds'}.`,
    '',
    ...machineLines(directory),
    ...versionLines(),
    `- image: ${images.files} files, ${mib(images.dataBytes)} in clusters that are not zero, of which ${mib(images.changedBytes)} change for night 2`,
    ...notes.map((note) => `- ${note}`),
    '',
    table(['target', 'wanted', 'measured', ''], targets),
    '',
    'Median of the rounds, least and most in brackets:',
    '',
    timesTable(rounds, names),
    '',
    `The bound loop by its own clock: ${Math.round(bound)} MB/s. vmar by its own clock: ${ownClockLine(rounds, 'full')}, ${ownClockLine(rounds, 'next')}.`,
    '',
    'Peak RSS of vmar, MB:',
    '',
    table(['image', ...STEPS.map((step) => STEP_NAMES[step])], memoryRows),
  ].join('\n');
}
