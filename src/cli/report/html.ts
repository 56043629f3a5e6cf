// SPDX-License-Identifier: MIT
// Pieces of HTML. Whatever is put into one is escaped unless it is a piece itself, so that no name from a datastore is
// ever taken for markup.

import { printable } from '../printable.js';

export class Html {
  constructor(readonly text: string) {}
}

/** What may stand in a piece: nothing, text, a number, a piece, a list of these. */
export type Content = undefined | string | number | Html | readonly Content[];

/** html`<p>${text}</p>`: text is escaped, in attributes with quotes too. */
export function html(pieces: TemplateStringsArray, ...contents: readonly Content[]): Html {
  let text = pieces[0] ?? '';
  for (const [index, content] of contents.entries()) text += render(content) + (pieces[index + 1] ?? '');
  return new Html(text);
}

function render(content: Content): string {
  if (content === undefined) return '';
  if (content instanceof Html) return content.text;
  if (typeof content === 'number') return String(content);
  if (typeof content === 'string') return escaped(content);
  return content.map(render).join('');
}

const ENTITIES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
};

function escaped(text: string): string {
  return printable(text).replace(/[&<>"']/g, (character) => ENTITIES[character] ?? character);
}
