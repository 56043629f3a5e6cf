// SPDX-License-Identifier: MIT
// What may stand in a configuration, and what it becomes. Links between its parts are looked at elsewhere.

import { validateHeaderName, validateHeaderValue } from 'node:http';
import * as z from 'zod';
import { isName } from '../../formats/vmar/names.js';
import { parseGuest } from '../store/backup-id.js';
import type {
  DatastoreConfig,
  GuestConfig,
  GuestSource,
  HooksConfig,
  LogConfig,
  MailConfig,
  NotifyConfig,
  WebhookConfig,
} from './config.js';
import {
  absolutePath,
  byLook,
  command,
  count,
  diskName,
  isText,
  listOf,
  mapOf,
  namesTo,
  place,
  size,
  span,
  storeUuid,
  text,
  textAs,
  yesOrNo,
} from './config-values.js';

const MINUTE_MILLIS = 60_000;

/** The parts, each of which is checked by itself. */
export const topSchema = mapOf('a map with datastores, guests and jobs', {
  datastores: namesTo('a map of datastores by name', z.unknown()),
  guests: namesTo('a map of guests by name', z.unknown()).optional(),
  jobs: namesTo('a map of jobs by name', z.unknown()),
  notify: z.unknown().optional(),
  log: z.unknown().optional(),
});

export const partName = textAs('a name: letters, digits, ".", "_" and "-"', (given) =>
  isName(given) ? given : undefined,
);

/** One "*" may stand for any text without a slash. `vm/100` is `100`. */
export const guestName = textAs('100, or NAMESPACE/vm/100, and at most one "*"', (given) => {
  const isName = given.split('*').length <= 2 && parseGuest(given.replace('*', 'x')) !== undefined;
  return isName ? given.replace(/^vm\//, '') : undefined;
});

const datastoreMap = mapOf('the path of a datastore, or a map with its path', {
  path: absolutePath,
  uuid: storeUuid.optional(),
  'min-free': size.optional(),
});

export const datastoreSchema = byLook(isText, absolutePath, datastoreMap).transform(
  (given): Omit<DatastoreConfig, 'name'> => {
    const { path, uuid, 'min-free': minFreeBytes = 0 } = typeof given === 'string' ? { path: given } : given;
    return { path, minFreeBytes, ...(uuid === undefined ? {} : { uuid }) };
  },
);

const WHERE_FROM = 'exactly one of disks, qmp and libvirt';
const LIVE_ONLY = ['agent', 'fleece', 'include', 'exclude', 'paranoid'] as const;

const guestMap = mapOf('a map with disks, qmp or libvirt', {
  disks: namesTo('a map of disk names to images', place).optional(),
  'force-share': yesOrNo.optional(),
  qmp: absolutePath.optional(),
  libvirt: text.optional(),
  agent: absolutePath.optional(),
  fleece: absolutePath.optional(),
  include: listOf('a list of disks', diskName).optional(),
  exclude: listOf('a list of disks', diskName).optional(),
  paranoid: yesOrNo.optional(),
  configs: listOf('a list of absolute paths', absolutePath).optional(),
  blobs: namesTo('a map of names to absolute paths', absolutePath).optional(),
  bandwidth: size.optional(),
});

type GuestMap = z.output<typeof guestMap>;

export const guestSchema = guestMap.transform((given, context): Omit<GuestConfig, 'name' | 'isPattern'> => {
  const wrong = (key: string, message: string) => context.addIssue({ code: 'custom', path: [key], message });
  const { disks, qmp, libvirt, configs = [], blobs = {}, bandwidth = 0 } = given;
  if ([disks, qmp, libvirt].filter((each) => each !== undefined).length !== 1) {
    context.addIssue({ code: 'custom', message: WHERE_FROM });
  }
  for (const name of Object.keys(disks ?? {})) if (!isName(name)) wrong('disks', `names of disks, not "${name}"`);
  if (disks !== undefined && Object.keys(disks).length === 0) wrong('disks', 'at least one disk');
  for (const key of LIVE_ONLY) {
    if (disks !== undefined && given[key] !== undefined) wrong(key, 'this only beside qmp or libvirt');
  }
  if (disks === undefined && given['force-share'] !== undefined) wrong('force-share', 'this only beside disks');
  return {
    source: sourceOf(given),
    configs,
    blobs: new Map(Object.entries(blobs)),
    bytesPerSecond: bandwidth,
  };
});

function sourceOf(given: GuestMap): GuestSource {
  const { disks = {}, qmp, libvirt, agent, fleece, include = [], exclude = [], paranoid = false } = given;
  const live = {
    ...{ include, exclude, paranoid },
    ...(agent === undefined ? {} : { agent }),
    ...(fleece === undefined ? {} : { fleece }),
  };
  if (qmp !== undefined) return { kind: 'qmp', socket: qmp, ...live };
  if (libvirt !== undefined) return { kind: 'libvirt', domain: libvirt, ...live };
  return { kind: 'images', disks: new Map(Object.entries(disks)), forceShare: given['force-share'] === true };
}

export const hooksSchema = mapOf('a map with before-job, after-job, before-guest, after-guest', {
  'before-job': command.optional(),
  'after-job': command.optional(),
  'before-guest': command.optional(),
  'after-guest': command.optional(),
  timeout: span.optional(),
}).transform(({ timeout = 10 * MINUTE_MILLIS, ...given }): HooksConfig => {
  const commands = Object.fromEntries(Object.entries(given).filter(([, each]) => each !== undefined));
  return { commands, timeoutMillis: timeout };
});

const mailAddress = textAs('a mail address', (given) => (/^[^\s<>,;"]+$/.test(given) ? given : undefined));

const mailMap = mapOf('a mail address, or a map with to, from, sendmail', {
  to: listOf('mail addresses', mailAddress),
  from: mailAddress.optional(),
  sendmail: absolutePath.optional(),
});

const mail = byLook(isText, mailAddress, mailMap).transform((given): MailConfig => {
  const { to, from = 'root', sendmail = '/usr/sbin/sendmail' } = typeof given === 'string' ? { to: [given] } : given;
  return { to, from, sendmail };
});

const webUrl = textAs('a URL that begins with http:// or https://', (given) => {
  const protocol = URL.canParse(given) ? new URL(given).protocol : '';
  return protocol === 'http:' || protocol === 'https:' ? given : undefined;
});

const headerValue = textAs('a header: one line of Latin-1', (given) =>
  passes(() => validateHeaderValue('x', given)) ? given : undefined,
);

/** Those that say how long the document is are not for others to say. */
const OWN_HEADERS = ['content-length', 'transfer-encoding'];

const headers = namesTo('a map of headers', headerValue).transform((given, context) => {
  for (const name of Object.keys(given)) {
    const isHeader = passes(() => validateHeaderName(name)) && !OWN_HEADERS.includes(name.toLowerCase());
    if (!isHeader) context.addIssue({ code: 'custom', path: [name], message: HEADER_NAME });
  }
  return given;
});

const HEADER_NAME = `the name of a header, and none of ${OWN_HEADERS.join(', ')}`;

function passes(check: () => void): boolean {
  try {
    check();
    return true;
  } catch {
    return false;
  }
}

const webhookMap = mapOf('a URL, or a map with url and headers', {
  url: webUrl,
  headers: headers.optional(),
});

const webhook = byLook(isText, webUrl, webhookMap).transform((given): WebhookConfig => {
  const { url, headers = {} } = typeof given === 'string' ? { url: given } : given;
  return { url, headers: new Map(Object.entries(headers)) };
});

export const notifySchema = mapOf('a map with command, mail or webhook', {
  when: textAs('failure, always or never', (given) => WHEN.find((when) => when === given)).optional(),
  command: command.optional(),
  mail: mail.optional(),
  webhook: webhook.optional(),
  timeout: span.optional(),
}).transform(({ when = 'failure', timeout = MINUTE_MILLIS, ...ways }, context): NotifyConfig => {
  if (when !== 'never' && Object.values(ways).every((way) => way === undefined)) {
    context.addIssue({ code: 'custom', message: 'at least one of command, mail and webhook' });
  }
  const given = Object.fromEntries(Object.entries(ways).filter(([, way]) => way !== undefined));
  return { when, timeoutMillis: timeout, ...given };
});

const WHEN = ['failure', 'always', 'never'] as const;
const LEVELS = ['debug', 'info', 'warn', 'error'] as const;

const logPlace = textAs('stderr, or the absolute path of a file', (given): LogConfig['to'] | undefined => {
  if (given === 'stderr') return { kind: 'stderr' };
  return absolutePath.safeParse(given).success ? { kind: 'file', path: given } : undefined;
});

const logMap = mapOf('stderr, a path, or a map with to and level', {
  to: logPlace,
  level: textAs(LEVELS.join(', '), (given) => LEVELS.find((level) => level === given)).optional(),
});

export const logSchema = byLook(isText, logPlace, logMap).transform((given): LogConfig => {
  return 'to' in given ? { to: given.to, level: given.level ?? 'info' } : { to: given, level: 'info' };
});

export const retrySchema = mapOf('a map with attempts and delay', {
  attempts: count(1, 100),
  delay: span.optional(),
}).transform(({ attempts, delay = MINUTE_MILLIS }) => ({ attempts, delayMillis: delay }));
