// tsc leaves plain JavaScript where it is: the generated protobuf module joins dist/ here, and the bins become executable.
import { chmodSync, cpSync } from 'node:fs';

cpSync('formats/vmar/generated', 'dist/formats/vmar/generated', { recursive: true });
for (const bin of ['vmar', 'vma-restore']) chmodSync(`dist/src/cli/${bin}.js`, 0o755);
