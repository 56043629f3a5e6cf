// SPDX-License-Identifier: MIT
// What a server offers: devices under names, with what each can do.

import { UsageError } from '../../base/errors.js';
import type { BlockDevice } from '../../block/device.js';
import {
  CONTEXT_ALLOCATION,
  CONTEXT_BITMAP_PREFIX,
  MOST_STRING_BYTES,
  TRANSMISSION_FLAG,
} from '../protocol/constants.js';

/** The part of a dirty bitmap that an export needs. */
export interface ExportBitmap {
  readonly lengthBytes: number;
  nextDirty(fromBytes: number, toBytes?: number): number | undefined;
  nextClean(fromBytes: number, toBytes?: number): number | undefined;
}

export interface NbdExport {
  readonly name: string;
  readonly description?: string;
  /** Stays the caller's, who closes it after the server. */
  readonly device: BlockDevice;
  readonly readOnly: boolean;
  /** Also under the empty name. An only export always is. */
  readonly isDefault?: boolean;
  /** Each is offered as the context "qemu:dirty-bitmap:NAME". */
  readonly bitmaps?: readonly { readonly name: string; readonly bitmap: ExportBitmap }[];
}

/** Throws UsageError for exports that could not be told apart or not be named on the wire. */
export function checkExports(exports: readonly NbdExport[]): void {
  const names = new Set<string>();
  for (const entry of exports) {
    checkName(entry.name, 'export');
    if (names.has(entry.name)) throw new UsageError('bad-export', 'two exports have one name', { object: entry.name });
    names.add(entry.name);
    checkBitmaps(entry);
  }
  if (exports.filter(({ isDefault }) => isDefault).length > 1) {
    throw new UsageError('bad-export', 'more than one export is the default');
  }
}

function checkBitmaps({ name: exportName, device, bitmaps = [] }: NbdExport): void {
  if (new Set(bitmaps.map(({ name }) => name)).size < bitmaps.length) {
    throw new UsageError('bad-export', 'two bitmaps of one export have one name', { object: exportName });
  }
  for (const { name, bitmap } of bitmaps) {
    checkName(name, 'bitmap');
    if (bitmap.lengthBytes !== device.lengthBytes) {
      throw new UsageError('bad-export', `the bitmap "${name}" is of another length than its device`, {
        object: exportName,
      });
    }
  }
}

function checkName(name: string, what: string): void {
  const lengthBytes = Buffer.byteLength(name);
  if (lengthBytes > MOST_STRING_BYTES - CONTEXT_BITMAP_PREFIX.length || name.includes('\0')) {
    throw new UsageError('bad-export', `this cannot be the name of ${what === 'export' ? 'an' : 'a'} ${what}`, {
      object: name.slice(0, 100),
      expected: 'less than 4 KiB, and no NUL',
    });
  }
}

/** The export of that name; for the empty name, failing that, the default one. */
export function findExport(exports: readonly NbdExport[], name: string): NbdExport | undefined {
  const exact = exports.find((entry) => entry.name === name);
  if (exact !== undefined || name !== '') return exact;
  return exports.length === 1 ? exports[0] : exports.find((entry) => entry.isDefault);
}

/**
 * What the client is told that it may use. CAN_MULTI_CONN holds for every device: a flush covers each write that
 * resolved before, and all connections share one device object.
 */
export function transmissionFlags({ device, readOnly }: NbdExport, structured: boolean): number {
  const flag = TRANSMISSION_FLAG;
  const writing = flag.sendFua | flag.sendTrim | flag.sendWriteZeroes | flag.sendFastZero;
  return (
    flag.hasFlags |
    flag.sendFlush |
    flag.canMultiConn |
    (readOnly || device.readOnly ? flag.readOnly : writing) |
    (device.prefetch === undefined ? 0 : flag.sendCache) |
    (structured ? flag.sendDf : 0)
  );
}

/** A metadata context that an export offers. */
export type Context =
  | { readonly name: string; readonly kind: 'allocation' }
  | { readonly name: string; readonly kind: 'bitmap'; readonly bitmap: ExportBitmap };

export function contextsOf({ bitmaps = [] }: NbdExport): Context[] {
  return [
    { name: CONTEXT_ALLOCATION, kind: 'allocation' },
    ...bitmaps.map(({ name, bitmap }): Context => ({ name: CONTEXT_BITMAP_PREFIX + name, kind: 'bitmap', bitmap })),
  ];
}

/** Whether a query of SET_META_CONTEXT, or of LIST_META_CONTEXT with its shorter forms, means this context. */
export function queryMatches(query: string, context: Context, listing: boolean): boolean {
  if (query === context.name) return true;
  if (!listing) return false;
  if (context.kind === 'allocation') return query === 'base:';
  return query === 'qemu:' || query === CONTEXT_BITMAP_PREFIX;
}
