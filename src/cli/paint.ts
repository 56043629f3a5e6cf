// SPDX-License-Identifier: MIT
// Colours, where a terminal shows them and NO_COLOR does not forbid it.

import { styleText } from 'node:util';

export type Style = 'bold' | 'dim' | 'red' | 'green' | 'yellow';
export type Paint = (style: Style, text: string) => string;

export function createPaint(
  stream: NodeJS.WriteStream | undefined,
  variables: Readonly<Record<string, string | undefined>>,
): Paint {
  const coloured = stream?.isTTY === true && !variables.NO_COLOR && variables.TERM !== 'dumb';
  return coloured ? (style, text) => styleText(style, text) : (_style, text) => text;
}
