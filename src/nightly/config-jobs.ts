// SPDX-License-Identifier: MIT
// What may stand in a job, by its kind, and what it becomes.

import type * as z from 'zod';
import {
  type DrillOptions,
  type GcOptions,
  type GuestChoice,
  JOB_KINDS,
  type JobBase,
  type JobConfig,
  type JobKind,
  type NotifyConfig,
} from './config.js';
import { guestName, hooksSchema, notifySchema, partName, retrySchema } from './config-schema.js';
import {
  absolutePath,
  byLook,
  count,
  diskName,
  listOf,
  mapOf,
  namesTo,
  retention,
  schedule,
  size,
  span,
  text,
  textAs,
  yesOrNo,
} from './config-values.js';

/** Of a job whose notify says nothing. */
export type JobDefaults = { readonly name: string; readonly notify: NotifyConfig };

const HOOK_MILLIS = 10 * 60_000;

const base = {
  kind: text.optional(),
  schedule: schedule.optional(),
  hooks: hooksSchema.optional(),
  notify: notifySchema.optional(),
  retry: retrySchema.optional(),
  timeout: span.optional(),
};

/** Names, or patterns of names; `all` is every guest. */
const guests = listOf(
  'all, or a list of guests, of which "*" stands for any',
  byLook(
    (given) => given === 'all',
    textAs('all', () => '*'),
    guestName,
  ),
);

const percent = textAs('a percentage from 0% to 100%', (given) => {
  const value = /^\d{1,3}(\.\d+)?%?$/.test(given) ? Number.parseFloat(given) : Number.NaN;
  return value <= 100 ? value : undefined;
});

const gcMap = mapOf('true, false, or a map with max-unused', { 'max-unused': percent.optional() });
const gc = byLook(
  (given) => typeof given === 'string',
  yesOrNo.transform((isWanted): GcOptions | undefined => (isWanted ? {} : undefined)),
  gcMap.transform((given): GcOptions => maxUnused(given['max-unused'])),
);

function maxUnused(given: number | undefined): GcOptions {
  return given === undefined ? {} : { maxUnusedPercent: given };
}

const QUICK_ALONE = { error: 'quick: true without older-than and budget', path: ['quick'] };
const verifyFields = { 'older-than': span.optional(), budget: span.optional(), quick: yesOrNo.optional() };
const verifyOfBackup = oneWay(mapOf('a map with schedule, older-than, budget', { schedule, ...verifyFields }));

/** What is quick reads no packs: nothing of it would be left for the next time. */
function oneWay<T extends z.ZodType<Pick<VerifyMap, 'quick' | 'older-than' | 'budget'>>>(map: T) {
  return map.refine(({ quick, budget, 'older-than': olderThan }) => {
    return quick !== true || (budget === undefined && olderThan === undefined);
  }, QUICK_ALONE);
}

const MAPS = {
  backup: mapOf('a map', {
    ...base,
    datastore: partName,
    guests,
    exclude: listOf('a list of guests', guestName).optional(),
    retention: retention.optional(),
    gc: gc.optional(),
    verify: verifyOfBackup.optional(),
    parallel: count(1, 256).optional(),
    'min-free': size.optional(),
    level: count(1, 22).optional(),
    labels: namesTo('a map of labels', text).optional(),
    'max-age': span.optional(),
  }),
  verify: oneWay(mapOf('a map', { ...base, datastore: partName, ...verifyFields })),
  prune: mapOf('a map', { ...base, datastore: partName, guests: guests.optional(), retention, gc: gc.optional() }),
  gc: mapOf('a map', { ...base, datastore: partName, 'max-unused': percent.optional() }),
  copy: mapOf('a map', {
    ...base,
    from: partName,
    to: partName,
    guests: guests.optional(),
    'min-free': size.optional(),
  }),
  drill: mapOf('a map', {
    ...base,
    datastore: partName,
    guests: guests.optional(),
    fsck: yesOrNo.optional(),
    boot: yesOrNo.optional(),
    until: text.optional(),
    memory: size.optional(),
    cpus: count(1, 64).optional(),
    bus: text.optional(),
    firmware: absolutePath.optional(),
    'allow-mount': yesOrNo.optional(),
    disks: listOf('a list of disks', diskName).optional(),
    'work-dir': absolutePath.optional(),
  }),
} as const;

/** The schema of a job of that kind; its result is one job, or two where a backup has a verify schedule of its own. */
export function jobSchema(kind: JobKind, defaults: JobDefaults): z.ZodType<readonly JobConfig[]> {
  switch (kind) {
    case 'backup':
      return MAPS.backup.transform((given) => backupJobs(given, defaults));
    case 'verify':
      return MAPS.verify.transform((given) => [{ ...baseOf(given, defaults), ...verifyOf(given) }]);
    case 'prune':
      return MAPS.prune.transform((given) => {
        const { datastore, retention: keep } = given;
        return [
          { ...baseOf(given, defaults), kind, datastore, retention: keep, ...namedGuests(given), ...gcOf(given) },
        ];
      });
    case 'gc':
      return MAPS.gc.transform((given) => {
        const { datastore, 'max-unused': unused } = given;
        return [{ ...baseOf(given, defaults), kind, datastore, ...maxUnused(unused) }];
      });
    case 'copy':
      return MAPS.copy.transform((given) => {
        const { from, to, 'min-free': minFreeBytes = 0 } = given;
        return [{ ...baseOf(given, defaults), kind, from, to, minFreeBytes, ...namedGuests(given) }];
      });
    case 'drill':
      return MAPS.drill.transform((given, context) => {
        const problem = drillProblem(given);
        if (problem !== undefined) context.addIssue({ code: 'custom', ...problem });
        const { datastore } = given;
        return [{ ...baseOf(given, defaults), kind, datastore, drill: drillOptions(given), ...namedGuests(given) }];
      });
  }
}

export const jobKind = textAs(JOB_KINDS.join(', '), (given) => JOB_KINDS.find((kind) => kind === given));

type BackupMap = z.output<typeof MAPS.backup>;

function backupJobs(given: BackupMap, defaults: JobDefaults): readonly JobConfig[] {
  const { datastore, parallel = 1, level, labels = {}, exclude = [], verify } = given;
  const choice: GuestChoice = { include: given.guests, exclude };
  const job: JobConfig = {
    ...baseOf(given, defaults),
    ...{ kind: 'backup', datastore, guests: choice, parallel },
    minFreeBytes: given['min-free'] ?? 0,
    labels: new Map(Object.entries(labels)),
    ...gcOf(given),
    ...(given.retention === undefined ? {} : { retention: given.retention }),
    ...(level === undefined ? {} : { level }),
    ...(given['max-age'] === undefined ? {} : { maxAgeMillis: given['max-age'] }),
  };
  if (verify === undefined) return [job];
  const { timeoutMillis: _, ...others } = job;
  const name = `${defaults.name}-verify`;
  const { notify, retry } = others;
  const hooks = { commands: {}, timeoutMillis: HOOK_MILLIS };
  return [job, { name, notify, retry, hooks, schedule: verify.schedule, ...verifyOf({ ...verify, datastore }) }];
}

interface BaseMap {
  readonly schedule?: JobBase['schedule'] | undefined;
  readonly hooks?: JobBase['hooks'] | undefined;
  readonly notify?: NotifyConfig | undefined;
  readonly retry?: JobBase['retry'] | undefined;
  readonly timeout?: number | undefined;
}

function baseOf(given: BaseMap, { name, notify }: JobDefaults): JobBase {
  return {
    name,
    hooks: given.hooks ?? { commands: {}, timeoutMillis: HOOK_MILLIS },
    notify: given.notify ?? notify,
    retry: given.retry ?? { attempts: 1, delayMillis: 0 },
    ...(given.schedule === undefined ? {} : { schedule: given.schedule }),
    ...(given.timeout === undefined ? {} : { timeoutMillis: given.timeout }),
  };
}

interface VerifyMap {
  readonly datastore: string;
  readonly 'older-than'?: number | undefined;
  readonly budget?: number | undefined;
  readonly quick?: boolean | undefined;
}

function verifyOf({ datastore, 'older-than': olderThan, budget, quick = false }: VerifyMap) {
  return {
    ...{ kind: 'verify' as const, datastore, quick },
    ...(olderThan === undefined ? {} : { olderThanMillis: olderThan }),
    ...(budget === undefined ? {} : { budgetMillis: budget }),
  };
}

function namedGuests(given: { readonly guests?: readonly string[] | undefined }): { guests?: readonly string[] } {
  return given.guests === undefined ? {} : { guests: given.guests };
}

function gcOf(given: { readonly gc?: GcOptions | undefined }): { gc?: GcOptions } {
  return given.gc === undefined ? {} : { gc: given.gc };
}

type DrillMap = z.output<typeof MAPS.drill>;

const BOOT_ONLY = ['until', 'memory', 'cpus', 'bus', 'firmware'] as const;

function drillProblem(given: DrillMap): { readonly message: string; readonly path?: string[] } | undefined {
  const isBoot = given.boot === true;
  if (isBoot === (given.fsck === true)) return { message: 'either fsck: true, or boot: true with until' };
  if (isBoot && given.until === undefined) return { message: 'until: what must come up on the console' };
  const stray = isBoot ? undefined : BOOT_ONLY.find((key) => given[key] !== undefined);
  if (stray !== undefined) return { message: 'this only beside boot: true', path: [stray] };
  if (!isBoot || given['allow-mount'] === undefined) return undefined;
  return { message: 'this only beside fsck: true', path: ['allow-mount'] };
}

function drillOptions(given: DrillMap): DrillOptions {
  const { until = '', memory, cpus, bus, firmware, disks = [], 'work-dir': workDirectory } = given;
  const boot = {
    ...{ kind: 'boot' as const, until },
    ...(memory === undefined ? {} : { memoryBytes: memory }),
    ...(cpus === undefined ? {} : { processors: cpus }),
    ...(bus === undefined ? {} : { bus }),
    ...(firmware === undefined ? {} : { firmware }),
  };
  const how = given.boot === true ? boot : { kind: 'fsck' as const, allowMount: given['allow-mount'] === true };
  return { how, disks, ...(workDirectory === undefined ? {} : { workDirectory }) };
}
