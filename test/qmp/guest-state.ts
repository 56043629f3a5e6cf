// SPDX-License-Identifier: MIT
// What a guest's QEMU has, as far as a backup could leave something in it.

import { QmpClient } from '#vmar/src/qmp/qmp-client.js';

export interface GuestState {
  readonly nodes: readonly string[];
  readonly edges: readonly string[];
  readonly exports: readonly string[];
  readonly bitmaps: readonly string[];
}

export async function guestState(qmp: string): Promise<GuestState> {
  const client = await QmpClient.open(qmp);
  try {
    const nodes = await client.execute('query-named-block-nodes', { flat: true });
    const { edges } = await client.execute('x-debug-query-block-graph', {});
    return {
      nodes: nodes.map(({ nodeName }) => nodeName).sort(),
      edges: edges.map(({ parent, child, name }) => `${parent} ${name} ${child}`).sort(),
      exports: (await client.execute('query-block-exports', {})).map(({ id }) => id).sort(),
      bitmaps: nodes
        .flatMap(({ nodeName, bitmaps }) => bitmaps.map(({ recording }) => `${nodeName} ${recording}`))
        .sort(),
    };
  } finally {
    await client.close();
  }
}
