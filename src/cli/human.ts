// SPDX-License-Identifier: MIT
// Numbers for people.

import { humanSize } from '../base/quantities.js';

export { humanSize } from '../base/quantities.js';

/** "212 MiB/s"; "-" where nothing can be said. */
export function humanRate(bytes: number, seconds: number): string {
  return seconds > 0 ? `${humanSize(Math.round(bytes / seconds))}/s` : '-';
}

/** "0.4 s", "12 s", "3 min 20 s", "2 h 05 min" */
export function humanDuration(seconds: number): string {
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  const minutes = Math.round(whole / 60);
  return `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, '0')} min`;
}

/** "12.5×"; "-" where nothing can be said. */
export function humanRatio(ratio: number | undefined): string {
  return ratio === undefined ? '-' : `${ratio < 100 ? ratio.toFixed(1) : Math.round(ratio)}×`;
}

/** How long ago: "12 min", "26 h 05 min", "3 days" */
export function humanAge(seconds: number): string {
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  if (minutes >= 48 * 60) return `${Math.floor(minutes / (24 * 60))} days`;
  return `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, '0')} min`;
}

/** Local time, "2026-11-21 02:00:00". */
export function humanTime(seconds: number): string {
  const date = new Date(seconds * 1000);
  const two = (value: number): string => String(value).padStart(2, '0');
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  return `${day} ${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}

/** "1 backup", "2 backups" */
export function counted(count: number, one: string, many = `${one}s`): string {
  return `${count} ${count === 1 ? one : many}`;
}
