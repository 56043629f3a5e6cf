// SPDX-License-Identifier: MIT
// A figure over time: the curve as SVG that is stretched to the width there is, the words beside it as text that is not.

import { type Content, type Html, html } from './html.js';

export interface Point {
  readonly timeSeconds: number;
  readonly value: number;
}

export interface Plot {
  readonly title: string;
  /** The last value, and what there is to say of it. */
  readonly caption: Content;
  readonly points: readonly Point[];
  /** A value as text: "1.5 GiB". */
  readonly format: (value: number) => string;
  /** A time as text for the axis. */
  readonly formatTime: (seconds: number) => string;
  /** Steps of the axis are round in this: 1024 for bytes, else 10. */
  readonly base: 10 | 1024;
}

const WIDTH = 1000;
const HEIGHT = 100;

export function plot(of: Plot): Html {
  const { title, caption, points, format, formatTime } = of;
  const [first, last] = [points[0], points.at(-1)];
  if (first === undefined || last === undefined)
    return html`<figure><figcaption><strong>${title}</strong>nothing yet</figcaption></figure>`;
  const top = niceTop(Math.max(...points.map(({ value }) => value)), of.base);
  const span = Math.max(1, last.timeSeconds - first.timeSeconds);
  const at = ({ timeSeconds, value }: Point): string =>
    `${round(((timeSeconds - first.timeSeconds) / span) * WIDTH)} ${round(HEIGHT - (value / top) * HEIGHT)}`;
  const curve = points.length === 1 ? `M0 ${at(last).split(' ')[1]}H${WIDTH}` : `M${points.map(at).join('L')}`;
  const label = `${title}: from ${format(first.value)} on ${formatTime(first.timeSeconds)} to ${format(last.value)} on ${formatTime(last.timeSeconds)}`;
  const middle = formatTime(first.timeSeconds + span / 2);
  return html`<figure>
<figcaption><strong>${title}</strong>${caption}</figcaption>
<div class="plot">
<div class="ticks" aria-hidden="true"><span>${format(top)}</span><span>${format(top / 2)}</span><span>${format(0)}</span></div>
<svg viewBox="0 0 ${WIDTH} ${HEIGHT}" preserveAspectRatio="none" role="img" aria-label="${label}">
<path class="area" d="${curve}V${HEIGHT}H0Z"/>
<path class="grid" d="M0 0H${WIDTH}M0 ${HEIGHT / 2}H${WIDTH}M0 ${HEIGHT}H${WIDTH}"/>
<path class="curve" d="${curve}"/></svg>
<div class="dates" aria-hidden="true"><span>${formatTime(first.timeSeconds)}</span>${points.length > 2 ? html`<span>${middle}</span>` : undefined}<span>${points.length > 1 ? formatTime(last.timeSeconds) : undefined}</span></div>
</div>
</figure>`;
}

const STEPS = [
  1, 2, 3, 4, 6, 8, 10, 12, 16, 20, 24, 30, 40, 50, 60, 80, 100, 120, 160, 200, 240, 300, 400, 500, 600, 800, 1000,
];

/** The least round number that is not less. */
export function niceTop(most: number, base: 10 | 1024): number {
  if (!(most > 0)) return 1;
  let unit = 1;
  if (base === 1024) while (most / unit > 1000) unit *= 1024;
  else while (most / unit > 10) unit *= 10;
  return unit * (STEPS.find((step) => step * unit >= most) ?? 1024);
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}
