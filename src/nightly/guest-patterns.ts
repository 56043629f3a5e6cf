// SPDX-License-Identifier: MIT
// Patterns with one "*", which stands for any text without a slash: of guests' names, and of paths.

/** What the "*" of the pattern stands for in the text, "" for a pattern without; undefined if it does not fit. */
export function matchPattern(pattern: string, text: string): string | undefined {
  const star = pattern.indexOf('*');
  if (star < 0) return pattern === text ? '' : undefined;
  const [head, tail] = [pattern.slice(0, star), pattern.slice(star + 1)];
  if (text.length < head.length + tail.length || !text.startsWith(head) || !text.endsWith(tail)) return undefined;
  const middle = text.slice(head.length, text.length - tail.length);
  return middle.includes('/') || middle === '' ? undefined : middle;
}

/** Whether a pattern chooses a guest. `*` alone chooses all, in all namespaces. */
export function choosesGuest(pattern: string, guest: string): boolean {
  return pattern === '*' || matchPattern(pattern, guest) !== undefined;
}

export function fillPattern(pattern: string, middle: string): string {
  return pattern.replace('*', () => middle);
}
