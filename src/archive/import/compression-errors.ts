// SPDX-License-Identifier: MIT
// What is said of compressed files that are not whole.

import { DamageError } from '../../base/errors.js';

/** @param offsetBytes where the file ends */
export function compressedCut(object: string, offsetBytes: number, cause?: unknown): DamageError {
  return new DamageError('compressed-cut', 'the compressed file ends too early', {
    ...{ object, offsetBytes, cause },
    advice: 'Fetch the file again: it is not whole.',
  });
}

/** @param offsetBytes how far the file was read, where that can be told */
export function compressedDamaged(object: string, why: string, cause: unknown, offsetBytes?: number): DamageError {
  return new DamageError('compressed-damaged', `the compressed file is damaged: ${why}`, {
    ...{ object, cause },
    ...(offsetBytes === undefined ? {} : { offsetBytes }),
  });
}
