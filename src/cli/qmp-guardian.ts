// SPDX-License-Identifier: MIT
// The guardian's process: see src/qmp/guardian.ts. Started by vmar, never by people.

import { guard } from '../qmp/guardian.js';

const stop = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => stop.abort());
await guard(process.stdin, process.stdout, stop);
process.exit(0);
