// SPDX-License-Identifier: MIT
// After tsc: the generated protobuf module joins dist/, and the programs are bundled.
//
// The programs are started every night for every guest, often for a second's work: reading two hundred small modules
// took a third of that. So each command becomes a few files, with the plain JavaScript packages in them; native packages
// stay where they are. The library (dist/src) is left as it is.
import { chmodSync, cpSync, rmSync } from 'node:fs';
import { rolldown } from 'rolldown';

/** Three folders down, as in src: modules find package.json, and the workers beside them. */
const PROGRAMS = 'dist/bundle/cli';
const NATIVE = [/^zstd-napi/, /^@napi-rs\/blake-hash/, /^lmdb/, /^koffi/];

cpSync('formats/vmar/generated', 'dist/formats/vmar/generated', { recursive: true });

const bundle = await rolldown({
  input: {
    vmar: 'dist/src/cli/vmar.js',
    'vma-restore': 'dist/src/cli/vma-restore.js',
    worker: 'dist/src/pipeline/worker.js',
    'decompress-worker': 'dist/src/archive/import/decompress-worker.js',
    'qmp-guardian': 'dist/src/cli/qmp-guardian.js',
  },
  platform: 'node',
  external: NATIVE,
});
rmSync(PROGRAMS, { recursive: true, force: true });
await bundle.write({ dir: PROGRAMS, format: 'esm', chunkFileNames: '[name]-[hash].js', comments: { legal: true } });
await bundle.close();
for (const bin of ['vmar', 'vma-restore']) chmodSync(`${PROGRAMS}/${bin}.js`, 0o755);
