// SPDX-License-Identifier: MIT
// A pack that has arrived, read back from the disk and checked to the last byte before it gets its name.

import { DamageError } from '../../base/errors.js';
import type { Executor } from '../../pipeline/executor.js';
import { ContainerReader } from '../../store/container-reader.js';
import { DamageList, nothingChecked } from '../verify/damage.js';
import { DamagedPlaces } from '../verify/damaged-places.js';
import { verifyContainer } from '../verify/verify-container.js';

/** @throws DamageError if it is not as it was written */
export async function inspectPack(path: string, executor: Executor): Promise<void> {
  const reader = ContainerReader.open(path);
  const damage = new DamageList();
  try {
    await verifyContainer({
      ...{ reader, executor, damage, damagedPlaces: new DamagedPlaces(), checked: nothingChecked() },
      ...{ mode: 'full', implementation: 'native' },
    });
  } finally {
    reader.close();
  }
  const [first] = damage.records;
  if (first === undefined) return;
  throw new DamageError('arrived-damaged', `what was written does not read back as it was: ${first.problem}`, {
    object: path,
    offsetBytes: first.offsetBytes,
    advice: 'Check that disk and its memory (`dmesg`, smartctl), then copy again.',
  });
}
