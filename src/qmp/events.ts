// SPDX-License-Identifier: MIT
// What QEMU says unasked.

import { count, type JsonRecord, maybe, member, record, text } from './decode.js';

interface At {
  /** By the host's clock, microseconds since 1970, as QEMU gives it. */
  readonly atMicros: number;
}

export type QmpEvent = At &
  (
    | { readonly event: 'STOP' }
    | { readonly event: 'RESUME' }
    | { readonly event: 'SHUTDOWN' }
    | { readonly event: 'BLOCK_EXPORT_DELETED'; readonly id: string }
    | { readonly event: 'JOB_STATUS_CHANGE'; readonly id: string; readonly status: string }
    | { readonly event: 'BLOCK_IO_ERROR'; readonly nodeName: string; readonly reason: string }
    | { readonly event: 'other'; readonly name: string }
  );

/** @throws AnswerFault */
export function decodeEvent(message: JsonRecord): QmpEvent {
  const event = member(message, 'event', text, '');
  const data = maybe(message, 'data', record, event) ?? {};
  const stamp = member(message, 'timestamp', record, event);
  const at: At = { atMicros: micros(stamp, event) };
  switch (event) {
    case 'STOP':
    case 'RESUME':
    case 'SHUTDOWN':
      return { ...at, event };
    case 'BLOCK_EXPORT_DELETED':
      return { ...at, event, id: member(data, 'id', text, event) };
    case 'JOB_STATUS_CHANGE':
      return { ...at, event, id: member(data, 'id', text, event), status: member(data, 'status', text, event) };
    case 'BLOCK_IO_ERROR': {
      const nodeName = maybe(data, 'node-name', text, event) ?? '';
      return { ...at, event, nodeName, reason: maybe(data, 'reason', text, event) ?? '' };
    }
    default:
      return { ...at, event: 'other', name: event };
  }
}

/** A host without a clock sends -1; then it is the beginning of time. */
function micros(stamp: JsonRecord, place: string): number {
  if (stamp.seconds === -1) return 0;
  return member(stamp, 'seconds', count, place) * 1e6 + member(stamp, 'microseconds', count, place);
}
