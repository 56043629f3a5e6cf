// SPDX-License-Identifier: MIT
// Colours, where a terminal shows them and NO_COLOR does not forbid it.

import { styleText } from 'node:util';

export type Style = 'bold' | 'dim' | 'red' | 'green' | 'yellow';
export type Paint = (style: Style, text: string) => string;

export function createPaint(
  stream: NodeJS.WriteStream | undefined,
  variables: Readonly<Record<string, string | undefined>>,
): Paint {
  // Not by the stream that styleText would look at: this one is the one that is written to.
  const coloured = stream?.isTTY === true && !variables.NO_COLOR && variables.TERM !== 'dumb';
  return coloured ? (style, text) => styleText(style, text, { validateStream: false }) : (_style, text) => text;
}
