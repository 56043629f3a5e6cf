// SPDX-License-Identifier: MIT
// A report of a job as JSON: of `vmar job run --json` and `vmar job history --json`, of webhooks, and for commands that
// notify. docs/JSON.md has its fields.

import { isUnderWay, type SeenGuest, type SeenReport, type SeenStep, secondsOf } from './history.js';

export function reportDocument(report: SeenReport) {
  const { job, kind, host, guests, steps, warnings } = report;
  return {
    ...{ job, kind, host },
    ...endedDocument(report),
    guests: guests.map(guestDocument),
    steps: steps.map(stepDocument),
    warnings,
  };
}

type Ended = Pick<SeenReport, 'outcome' | 'startedMillis' | 'finishedMillis' | 'errorCode' | 'error'>;

function endedDocument({ outcome, startedMillis, finishedMillis, errorCode, error }: Ended) {
  return {
    outcome,
    started: new Date(startedMillis).toISOString(),
    ...(isUnderWay(outcome) ? {} : { finished: new Date(finishedMillis).toISOString() }),
    seconds: secondsOf({ outcome, startedMillis, finishedMillis }),
    ...(errorCode === '' ? {} : { error: { code: errorCode, message: error } }),
  };
}

function guestDocument(guest: SeenGuest) {
  const { sizeBytes, readBytes, zeroBytes, unchangedBytes, newBytes, storedBytes } = guest;
  return {
    guest: guest.guest,
    ...endedDocument(guest),
    ...(guest.backup === '' ? {} : { backup: guest.backup }),
    attempts: guest.attempts,
    ...{
      size: sizeBytes,
      read: readBytes,
      zero: zeroBytes,
      unchanged: unchangedBytes,
      new: newBytes,
      stored: storedBytes,
    },
  };
}

function stepDocument(step: SeenStep) {
  const { summary, attempts } = step;
  return { step: step.step, ...endedDocument(step), attempts, ...(summary === '' ? {} : { summary }) };
}
