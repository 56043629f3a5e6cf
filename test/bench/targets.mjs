// SPDX-License-Identifier: MIT
// The targets, and what was measured against them.
import { median } from './measure.mjs';
import { STEPS } from './rounds.mjs';

export const RSS_LIMIT_BYTES = 400e6;

/** The median over the rounds of the quotient within each round; undefined where one side was not measured. */
function quotient(rounds, above, below) {
  const values = rounds.map((round) => above(round) / below(round)).filter(Number.isFinite);
  return values.length === rounds.length ? median(values) : undefined;
}

/**
 * The rows of the table of targets: `{ what, target, measured, met }`, the last undefined where it was not measured.
 * `rounds` is a list of `{ [contender]: result }`; `peaks` are those of the big image.
 */
export function judge(rounds, peaks) {
  const against = (step) =>
    quotient(
      rounds,
      (r) => r.vmar?.[step].seconds,
      (r) => r.borg?.[step].seconds,
    );
  const rows = [
    {
      what: 'full backup, throughput ÷ bound loop',
      limit: 0.85,
      atLeast: true,
      value: quotient(
        rounds,
        (r) => r['bound loop'].full.ownSeconds,
        (r) => r.vmar.full.seconds,
      ),
    },
    { what: 'full backup, time ÷ borg', limit: 0.5, value: against('full') },
    { what: 'next night, 5 % changed, time ÷ borg', limit: 0.35, value: against('next') },
    {
      what: 'stored after both nights, bytes ÷ borg',
      limit: 1,
      value: quotient(
        rounds,
        (r) => r.vmar.storedBytes,
        (r) => r.borg?.storedBytes,
      ),
    },
    { what: 'restore to a sparse file, durable, time ÷ borg', limit: 0.25, value: against('restore') },
    { what: 'verify everything, time ÷ borg', limit: 0.4, value: against('verify') },
  ].map(({ what, limit, atLeast, value }) => ({
    what,
    target: `${atLeast ? '≥' : '≤'} ${limit.toFixed(2)}`,
    measured: value === undefined ? 'not measured' : value.toFixed(3),
    met: value === undefined ? undefined : atLeast ? value >= limit : value <= limit,
  }));
  const steps = rounds.flatMap((round) => STEPS.map((step) => round.vmar[step].rssBytes));
  const peak = Math.max(...Object.values(peaks), ...steps);
  rows.push({
    what: 'peak RSS, all steps, 64 GiB sparse image too',
    target: '≤ 400 MB',
    measured: `${Math.round(peak / 1e6)} MB`,
    met: peak <= RSS_LIMIT_BYTES,
  });
  return rows;
}
