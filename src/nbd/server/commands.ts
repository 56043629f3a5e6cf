// SPDX-License-Identifier: MIT
// Which requests are allowed, and what devices do for them.

import type { BlockDevice } from '../../block/device.js';
import { COMMAND, COMMAND_FLAG, WIRE_ERROR } from '../protocol/constants.js';
import type { NbdRequest } from '../protocol/requests.js';
import type { FlushGate } from './flush-gate.js';
import type { NbdLimits } from './limits.js';
import type { Agreement } from './negotiation.js';

export interface Refusal {
  readonly error: number;
  readonly message: string;
}

/** FUA is allowed with every command; only those that write heed it. */
const FLAGS: Readonly<Record<number, number>> = {
  [COMMAND.read]: COMMAND_FLAG.fua | COMMAND_FLAG.df,
  [COMMAND.write]: COMMAND_FLAG.fua,
  [COMMAND.flush]: COMMAND_FLAG.fua,
  [COMMAND.trim]: COMMAND_FLAG.fua,
  [COMMAND.cache]: COMMAND_FLAG.fua,
  [COMMAND.writeZeroes]: COMMAND_FLAG.fua | COMMAND_FLAG.noHole | COMMAND_FLAG.fastZero,
  [COMMAND.blockStatus]: COMMAND_FLAG.fua | COMMAND_FLAG.reqOne,
};

const PAST_THE_END: Refusal = { error: WIRE_ERROR.EINVAL, message: 'the request goes past the end of the export' };
const NO_SPACE_THERE: Refusal = { error: WIRE_ERROR.ENOSPC, message: PAST_THE_END.message };
const READ_ONLY: Refusal = { error: WIRE_ERROR.EPERM, message: 'the export is read-only' };
const UNKNOWN_COMMAND: Refusal = { error: WIRE_ERROR.EINVAL, message: 'this command is not known here' };
const WRONG_FLAGS: Refusal = { error: WIRE_ERROR.EINVAL, message: 'flags that do not go with the command' };
const TOO_LARGE: Refusal = { error: WIRE_ERROR.EINVAL, message: 'more bytes than one request may move' };
const NOT_EMPTY_FLUSH: Refusal = { error: WIRE_ERROR.EINVAL, message: 'a flush of a range' };
const NO_CONTEXT: Refusal = { error: WIRE_ERROR.EINVAL, message: 'no metadata context was selected' };
const EMPTY_STATUS: Refusal = { error: WIRE_ERROR.EINVAL, message: 'the status of an empty range' };
const NOT_FAST: Refusal = { error: WIRE_ERROR.ENOTSUP, message: 'whether zeroing is fast here is not known' };

/** Why a request is answered with an error before any device sees it, as the protocol document prescribes. */
export function refusal(request: NbdRequest, agreement: Agreement, limits: NbdLimits): Refusal | undefined {
  const { type, flags, lengthBytes } = request;
  const allowed = FLAGS[type];
  if (allowed === undefined) return UNKNOWN_COMMAND;
  if ((flags & ~allowed) !== 0 || ((flags & COMMAND_FLAG.df) !== 0 && !agreement.structured)) return WRONG_FLAGS;
  if (type === COMMAND.flush) return request.offsetBytes === 0 && lengthBytes === 0 ? undefined : NOT_EMPTY_FLUSH;
  const { device, readOnly } = agreement.export;
  const writes = type === COMMAND.write || type === COMMAND.trim || type === COMMAND.writeZeroes;
  if (writes && (readOnly || device.readOnly)) return READ_ONLY;
  if ((type === COMMAND.read || type === COMMAND.write) && lengthBytes > limits.payloadBytes) return TOO_LARGE;
  if (request.offsetBytes > device.lengthBytes - lengthBytes) {
    return type === COMMAND.write || type === COMMAND.writeZeroes ? NO_SPACE_THERE : PAST_THE_END;
  }
  if (type === COMMAND.blockStatus) {
    if (agreement.contexts.length === 0) return NO_CONTEXT;
    if (lengthBytes === 0) return EMPTY_STATUS;
  }
  return (flags & COMMAND_FLAG.fastZero) === 0 ? undefined : NOT_FAST;
}

/** Carries out what has no data to send back. FUA is a flush after the operation, before its answer. */
export async function perform(
  device: BlockDevice,
  gate: FlushGate,
  request: NbdRequest,
  payload?: Buffer,
): Promise<void> {
  const { type, flags, offsetBytes, lengthBytes } = request;
  switch (type) {
    case COMMAND.write:
      if (payload !== undefined) await device.write(offsetBytes, payload);
      break;
    case COMMAND.trim:
      await device.discard(offsetBytes, lengthBytes);
      break;
    case COMMAND.writeZeroes:
      await device.writeZeroes(offsetBytes, lengthBytes, { keepAllocated: (flags & COMMAND_FLAG.noHole) !== 0 });
      break;
    case COMMAND.read:
      return;
    case COMMAND.cache:
      await device.prefetch?.(offsetBytes, lengthBytes);
      return;
    default:
      await gate.flush();
      return;
  }
  if ((flags & COMMAND_FLAG.fua) !== 0) await gate.flush();
}
