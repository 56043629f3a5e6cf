// SPDX-License-Identifier: MIT
// The exit statuses as every help text ends with them.

import { EXIT } from '../base/errors.js';

const MEANINGS: Readonly<Record<keyof typeof EXIT, string>> = {
  done: 'done',
  failed: 'failed',
  usage: 'wrong usage',
  damage: 'damage found',
  notFound: 'no such backup, guest or disk',
  busy: 'busy: somebody else has it locked',
  interrupted: 'interrupted',
};

export const EXIT_HELP = `
Exit status:
${Object.entries(MEANINGS)
  .map(([name, meaning]) => `  ${String(EXIT[name as keyof typeof EXIT]).padEnd(4)} ${meaning}`)
  .join('\n')}`;
