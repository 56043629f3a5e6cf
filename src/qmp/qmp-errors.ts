// SPDX-License-Identifier: MIT
// What can go wrong between us and a monitor or agent, each with its stable code.

import { BusyError, FailedError, systemErrorCode, UsageError } from '../base/errors.js';

/** Nobody listens there, or it cannot be reached. */
export function socketMissing(object: string, cause: unknown): FailedError {
  const code = systemErrorCode(cause);
  const why =
    code === 'ENOENT'
      ? 'there is no such socket'
      : code === 'ECONNREFUSED'
        ? 'nobody listens on this socket: the guest is off, or was started anew with another one'
        : code === 'EACCES' || code === 'EPERM'
          ? 'this socket may not be opened by this user'
          : `this socket cannot be reached: ${cause instanceof Error ? cause.message : String(cause)}`;
  return new FailedError('qmp-missing', why, {
    object,
    advice: 'Start QEMU with -qmp unix:PATH,server=on,wait=off and give that path.',
    cause,
  });
}

export function socketPathTooLong(object: string, mostBytes: number): UsageError {
  return new UsageError('socket-path-too-long', 'the path is too long for a socket', {
    object,
    expected: `at most ${mostBytes} bytes`,
    advice: 'Give a relative path, or one through a symbolic link.',
  });
}

/** It took the connection, or kept it waiting, but does not talk to us. */
export function monitorBusy(object: string, waitedMillis: number): BusyError {
  const message = `QEMU did not greet within ${waitedMillis} ms: it answers one client at a time, and another has this monitor`;
  return new BusyError('qmp-busy', message, {
    object,
    advice:
      'Close the other client (libvirt or Proxmox own theirs), or give the guest a second -qmp socket; is it one of -qmp?',
  });
}

/** The same, where another program than QEMU has the socket: it may pass on to one, or be something else altogether. */
export function silentProgram(object: string, program: string, waitedMillis: number): BusyError {
  const message = `nobody greeted within ${waitedMillis} ms: either another client has this monitor, or it is none`;
  return new BusyError('qmp-busy', message, {
    object,
    expected: 'a QMP greeting of QEMU',
    found: `a socket of ${program}`,
    advice: 'Check that this is the socket of -qmp; close the other client, or give the guest a second -qmp socket.',
  });
}

/** Who answers there does not speak QMP. */
export function notQmp(object: string, found: string): FailedError {
  return new FailedError('not-qmp', 'this is not the socket of a QEMU monitor (QMP)', {
    object,
    expected: 'a QMP greeting',
    found,
    advice: 'Give the socket of -qmp, not the one of a human monitor, an NBD server or a guest agent.',
  });
}

export function monitorLost(object: string, why: string, cause?: unknown): FailedError {
  return new FailedError('qmp-lost', `the connection to QEMU was lost: ${why}`, { object, cause });
}

export function commandTimeout(object: string, command: string, waitedMillis: number): FailedError {
  return new FailedError('qmp-timeout', `QEMU did not answer ${command} within ${waitedMillis} ms`, { object });
}

/** What was answered is no answer to this command. */
export function badAnswer(object: string, what: string): FailedError {
  return new FailedError('qmp-bad-answer', `QEMU gave an answer that makes no sense: ${what}`, { object });
}

/** QEMU refused a command. `errorClass` and `description` are its own words. */
export class QmpCommandError extends FailedError {
  constructor(
    object: string,
    readonly command: string,
    readonly errorClass: string,
    readonly description: string,
  ) {
    super('qmp-command-failed', `QEMU refused ${command}: ${description}`, { object, found: errorClass });
  }
}

export function qemuTooOld(object: string, version: string, missing: readonly string[], since: string): FailedError {
  return new FailedError('qemu-too-old', `this QEMU lacks ${missing.join(', ')}`, {
    object,
    expected: `QEMU ${since} or later`,
    found: `QEMU ${version}`,
    advice: 'Update QEMU and start the guest anew, or stop the guest and back up its images with --disk.',
  });
}
