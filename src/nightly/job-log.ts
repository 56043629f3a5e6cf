// SPDX-License-Identifier: MIT
// The structured log of runs: one line of JSON an event. Written at once, not by a thread: the last line before a crash is
// the one that is wanted.

import { destination, type Logger, pino } from 'pino';
import { FailedError, systemErrorCode } from '../base/errors.js';
import type { LogConfig, LogLevel } from './config.js';
import { reportDocument } from './report-document.js';
import type { JobEvent } from './run-events.js';

export class JobLog {
  readonly #logger: Logger;

  private constructor(logger: Logger) {
    this.#logger = logger;
  }

  /** @throws FailedError if the file cannot be written to */
  static open({ to, level }: LogConfig): JobLog {
    try {
      const stream = destination({ dest: to.kind === 'stderr' ? 2 : to.path, sync: true, mode: 0o640 });
      // A full disk ends no backup. Who reads the log sees that it stops.
      stream.on('error', () => undefined);
      const options = {
        level,
        base: { name: 'vmar' },
        timestamp: () => `,"time":"${new Date().toISOString()}"`,
        formatters: { level: (label: string) => ({ level: label }) },
      };
      return new JobLog(pino(options, stream));
    } catch (error) {
      const code = systemErrorCode(error);
      throw new FailedError('log-unwritable', `the log cannot be written: ${code ?? String(error)}`, {
        object: to.kind === 'file' ? to.path : 'standard error',
        cause: error,
      });
    }
  }

  write(job: string, event: JobEvent): void {
    const [level, text, facts] = describe(event);
    this.#logger[level]({ event: event.event, job, ...facts }, text);
  }
}

type Line = readonly [LogLevel, string, object];

function describe(event: JobEvent): Line {
  const { event: _, ...facts } = event;
  switch (event.event) {
    case 'job-begin':
      return ['info', 'the job begins', facts];
    case 'guests':
      return ['info', `${event.guests.length} guests`, facts];
    case 'guest-begin':
      return ['info', 'the guest begins', facts];
    case 'says': {
      const { text, ...others } = event;
      return ['info', text, { ...others, event: 'says' }];
    }
    case 'retry':
      return ['warn', 'it is tried again', facts];
    case 'guest-end': {
      const { outcome, error, errorCode, startedMillis, finishedMillis, ...counts } = event.result;
      const seconds = (finishedMillis - startedMillis) / 1000;
      const isGood = outcome === 'ok';
      const line = { ...counts, outcome, seconds, ...(isGood ? {} : { code: errorCode, error }) };
      return [isGood ? 'info' : 'error', isGood ? 'the guest is done' : `the guest is not done: ${error}`, line];
    }
    case 'step-begin':
      return ['info', 'the step begins', facts];
    case 'step-end': {
      const { outcome, error, errorCode, startedMillis, finishedMillis, ...others } = event.result;
      const seconds = (finishedMillis - startedMillis) / 1000;
      const isGood = outcome === 'ok';
      const line = { ...others, outcome, seconds, ...(isGood ? {} : { code: errorCode, error }) };
      return [isGood ? 'info' : 'error', isGood ? 'the step is done' : `the step is not done: ${error}`, line];
    }
    case 'hook-begin':
      return ['debug', 'the hook begins', facts];
    case 'hook-says': {
      const { text, ...others } = event;
      return ['info', text, { ...others, event: 'hook-says' }];
    }
    case 'hook-end':
      return [event.error === undefined ? 'info' : 'error', event.error ?? 'the hook is done', facts];
    case 'notified':
      return [event.error === undefined ? 'info' : 'warn', event.error ?? 'somebody was told', facts];
    case 'warning': {
      const { text, ...others } = event;
      return ['warn', text, { ...others, event: 'warning' }];
    }
    case 'job-end': {
      const { guests, job: __, ...report } = reportDocument(event.report);
      return [
        report.outcome === 'ok' ? 'info' : 'error',
        `the job is ${report.outcome}`,
        { ...report, guests: guests.length },
      ];
    }
  }
}
