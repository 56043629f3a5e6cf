// SPDX-License-Identifier: MIT
// Copies the npm packages that the bundled programs still load, those with native code and what these need, into a directory:
// what a Debian package takes along. usage: runtime-packages.mjs NODE_MODULES TARGET
import { cpSync, existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

const NATIVE = ['zstd-napi', '@napi-rs/blake-hash', 'lmdb', 'koffi'];
/** Needed only while a package is installed from npm. */
const INSTALLERS = new Set(['@types/node', 'node-addon-api', 'prebuild-install']);
/** Sources, and what compiling them leaves; what is for another C library than Debian's. */
const LEFT_OUT = {
  every: /\.(a|mk|map|gyp|gypi|md|d\.c?ts|musl\.node)$/,
  'zstd-napi': /^\/(src|deps|build\/deps|build\/Release\/(obj\.target|\.deps))$/,
  lmdb: /^\/(src|dependencies)$/,
  koffi: /^\/(vendor|doc|lib\/native)$/,
};

const [modules, target] = process.argv.slice(2);
if (target === undefined) throw new Error('usage: runtime-packages.mjs NODE_MODULES TARGET');

function needed(names, found = new Set()) {
  for (const name of names) {
    const file = join(modules, name, 'package.json');
    if (found.has(name) || INSTALLERS.has(name) || !existsSync(file)) continue;
    found.add(name);
    const { dependencies = {}, optionalDependencies = {} } = JSON.parse(readFileSync(file, 'utf8'));
    needed([...Object.keys(dependencies), ...Object.keys(optionalDependencies)], found);
  }
  return found;
}

for (const name of needed(NATIVE)) {
  const from = join(modules, name);
  const filter = (path) => {
    const inside = path.slice(from.length);
    return !LEFT_OUT.every.test(inside) && !LEFT_OUT[name]?.test(inside) && !/\/node_modules(\/|$)/.test(inside);
  };
  cpSync(from, join(target, name), { recursive: true, dereference: true, filter });
}
