// SPDX-License-Identifier: MIT
// The syntax of systemd's unit files: names and values that stand for exactly what was meant.

/**
 * The name of a unit for a word: what unit names do not hold is escaped, as systemd-escape does, but for "-", which they
 * do. Two words never give the same name.
 */
export function unitName(prefix: string, word: string, suffix: 'service' | 'timer'): string {
  const escaped = [...Buffer.from(word)]
    .map((byte, at) => {
      const character = String.fromCharCode(byte);
      const isPlain = /[A-Za-z0-9:_-]/.test(character) || (character === '.' && at > 0);
      return isPlain ? character : `\\x${byte.toString(16).padStart(2, '0')}`;
    })
    .join('');
  return `${prefix}${escaped}.${suffix}`;
}

/** A word of a value that takes several: in quotes where that is needed, with nothing that is expanded. */
export function unitWord(word: string): string {
  return quoted(word.replaceAll('%', '%%'));
}

/** A word of a command line, where variables are expanded too. */
export function commandWord(word: string): string {
  return quoted(word.replaceAll('%', '%%').replaceAll('$', '$$$$'));
}

function quoted(word: string): string {
  if (/^[A-Za-z0-9/._:@%$+=,~-]+$/.test(word)) return word;
  const escaped = word.replace(/[\\"]/g, '\\$&').replace(CONTROL, (character) => {
    return `\\x${character.charCodeAt(0).toString(16).padStart(2, '0')}`;
  });
  return `"${escaped}"`;
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what it is about
const CONTROL = /[\u0000-\u001f\u007f]/g;
