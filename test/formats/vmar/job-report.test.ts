// SPDX-License-Identifier: MIT

import { describe, expect, it } from 'vitest';
import { encodeEnvelope } from '#vmar/formats/vmar/envelope.js';
import { NO_FEATURES } from '#vmar/formats/vmar/features.js';
import { vmar } from '#vmar/formats/vmar/generated/vmar.js';
import { decodeJobReport, encodeJobReport } from '#vmar/formats/vmar/job-report.js';
import { DamageError, FailedError, UsageError } from '#vmar/src/base/errors.js';
import { expectEveryDamageFound, refusalBy } from './damage.js';
import { golden } from './golden.js';
import { HASHES, jobReportSample } from './samples.js';

function reportOf(message: vmar.v1.JobReport.$Properties, features = NO_FEATURES): Uint8Array {
  return encodeEnvelope('VMARJOBR', 'blake3', features, vmar.v1.JobReport.encode(message).finish(), 'seal');
}

describe('a job report', () => {
  it.each(HASHES)('%s: is as in the golden file, and every damage to it is found', (hash) => {
    const bytes = golden(`job-report-${hash}`, encodeJobReport(jobReportSample(), hash));
    expect(decodeJobReport(bytes, '/s/x.report')).toEqual(jobReportSample());
    expectEveryDamageFound(bytes, (damaged) => decodeJobReport(damaged, '/s/x.report'));
  });

  it('may be of a job without guests, steps and warnings', () => {
    const bare = { ...jobReportSample(), guests: [], steps: [], warnings: [] };
    expect(decodeJobReport(encodeJobReport(bare, 'blake3'), 'x')).toEqual(bare);
  });

  it('of a newer writer is refused by its feature', () => {
    const bytes = reportOf({ job: 'a', kind: 'gc', outcome: 1 }, { ...NO_FEATURES, incompatible: 1n });
    expect(refusalBy(() => decodeJobReport(bytes, 'x'))).toBeInstanceOf(FailedError);
  });

  const right = { job: 'a', kind: 'backup', outcome: 1 };
  it.each<[string, vmar.v1.JobReport.$Properties]>([
    ['no name', { ...right, job: '' }],
    ['no outcome', { ...right, outcome: 0 }],
    ['an unknown outcome', { ...right, outcome: 6 }],
    ['a guest without a name', { ...right, guests: [{ outcome: 1 }] }],
    ['a guest without an outcome', { ...right, guests: [{ guest: '1' }] }],
    ['a step without a name', { ...right, steps: [{ outcome: 1 }] }],
    ['16385 guests', { ...right, guests: Array.from({ length: 16385 }, () => ({ guest: '1', outcome: 1 })) }],
    ['a count past 2^53', { ...right, guests: [{ guest: '1', outcome: 1, readBytes: 2 ** 60 }] }],
  ])('with %s is damage, whatever its digest says', (_, wrong) => {
    const error = refusalBy(() => decodeJobReport(reportOf(wrong), 'x'));
    expect(error).toBeInstanceOf(DamageError);
    expect(error.code).toBe('report-damaged');
  });

  it('is not written with what no reader takes', () => {
    const many = Array.from({ length: 1025 }, () => 'x');
    for (const wrong of [{ job: '' }, { warnings: many }, { startedMillis: -1 }]) {
      expect(() => encodeJobReport({ ...jobReportSample(), ...wrong }, 'blake3')).toThrow(UsageError);
    }
  });
});
