// SPDX-License-Identifier: MIT
// Generates the static protobuf module (and its types) from formats/vmar/vmar.proto, for tsc and for dist/.
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';

const out = 'formats/vmar/generated';
mkdirSync(out, { recursive: true });
const bin = (name) => `node_modules/.bin/${name}`;
execFileSync(bin('pbjs'), [
  ...['-t', 'static-module', '-w', 'es6', '--force-number', '--no-service', '--no-delimited', '--no-verify'],
  ...['--no-comments', '-r', 'vmar', '-o', `${out}/vmar.js`, 'formats/vmar/vmar.proto'],
]);
// pbts reads comments, so it gets a commented copy of its own.
execFileSync(bin('pbjs'), [
  ...['-t', 'static-module', '-w', 'es6', '--force-number', '--no-service', '--no-delimited', '--no-verify'],
  ...['-r', 'vmar', '-o', `${out}/vmar.types.js`, 'formats/vmar/vmar.proto'],
]);
execFileSync(bin('pbts'), ['-o', `${out}/vmar.d.ts`, `${out}/vmar.types.js`]);
const types = readFileSync(`${out}/vmar.d.ts`, 'utf8').replace('import Long = require("long");\n', '');
writeFileSync(`${out}/vmar.d.ts`, types);
