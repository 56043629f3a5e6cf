// SPDX-License-Identifier: MIT
// `show` and `list` of a .vma file of Proxmox, as it is.

import { formatTime, isTime } from '../../formats/vmar/names.js';
import { lookAtVma, type VmaLook } from '../archive/import/look-at-vma.js';
import { isVmstate } from '../archive/import/vma-input.js';
import { toHex } from '../base/bytes.js';
import { NotFoundError } from '../base/errors.js';
import type { Context } from './context.js';
import { humanSize, humanTime } from './human.js';
import { LIST_COLUMNS } from './list-columns.js';
import { printable } from './printable.js';
import { renderTable } from './table.js';

export async function showForeign({ output, log }: Context, path: string, config: string | undefined): Promise<void> {
  const look = await lookAtVma(path, log);
  if (config !== undefined) {
    output.bytes(findConfig(path, look, config));
    return;
  }
  output.result(
    () => shownDocument(path, look),
    () => shownText(path, look, output),
  );
}

/** As one backup in a list, with the fields of any other. */
export async function listForeign({ output, log }: Context, path: string): Promise<void> {
  const look = await lookAtVma(path, log);
  const disks = disksOf(look).map(({ name, size }) => ({ name, size }));
  const { notes, isProtected } = look.companions;
  const entry = { backup: path, ...factsOf(look), size: sizeOf(look), disks, protected: isProtected };
  output.result(
    () => ({ backups: [{ ...entry, ...(notes === '' ? {} : { notes }) }] }),
    () => {
      const names = disks.map(({ name }) => name).join(', ');
      const row = [path, timeText(look), humanSize(entry.size), names].map(printable);
      return renderTable(output.paint, LIST_COLUMNS, [row]);
    },
  );
}

function findConfig(path: string, { configs }: VmaLook, wanted: string): Uint8Array {
  const found = configs.find(({ name }) => name === wanted);
  if (found !== undefined) return found.content;
  throw new NotFoundError('no-such-config', `the archive has no configuration file ${printable(wanted)}`, {
    object: path,
    found: configs.map(({ name }) => printable(name)).join(', ') || 'none',
  });
}

/** `guest` and `time` where they are known. */
function factsOf({ guestId, timeSeconds }: VmaLook) {
  return {
    ...(guestId === undefined ? {} : { guest: `vm/${guestId}` }),
    ...(isTime(timeSeconds) ? { time: formatTime(timeSeconds) } : {}),
  };
}

function disksOf({ header }: VmaLook) {
  return header.devices.map((device) => ({
    device: device.id,
    name: device.name,
    kind: isVmstate(device) ? ('vmstate' as const) : ('disk' as const),
    size: device.sizeBytes,
  }));
}

/** Of the disks; a memory state's length is a guess. */
function sizeOf(look: VmaLook): number {
  return disksOf(look).reduce((sum, { kind, size }) => sum + (kind === 'disk' ? size : 0), 0);
}

function timeText({ timeSeconds }: VmaLook): string {
  return isTime(timeSeconds) ? humanTime(timeSeconds) : 'unknown';
}

function shownDocument(path: string, look: VmaLook) {
  const { header, guestName, configs, companions } = look;
  return {
    backup: path,
    ...factsOf(look),
    ...(guestName === undefined ? {} : { guestName }),
    source: 'vma',
    sourceUuid: toHex(header.uuid),
    disks: disksOf(look),
    configs: configs.map(({ name, content }) => ({ name, size: content.byteLength })),
    notes: companions.notes,
    protected: companions.isProtected,
  };
}

function shownText(path: string, look: VmaLook, { paint }: Context['output']): string {
  const { header, guestId, guestName, configs, companions } = look;
  const facts: [title: string, value: string][] = [
    ['archive', path],
    ['guest', [guestId === undefined ? '' : `vm/${guestId}`, guestName ?? ''].filter(Boolean).join(' ')],
    ['time', timeText(look)],
    ['uuid', toHex(header.uuid)],
    ['configs', configs.map(({ name, content }) => `${name} (${humanSize(content.byteLength)})`).join(', ')],
    ['notes', companions.notes],
    ['protected', companions.isProtected ? 'yes' : ''],
  ];
  const told = facts.filter(([, value]) => value !== '');
  const lines = told.map(([title, value]) => `${paint('bold', title.padEnd(9))}   ${printable(value)}`);
  const rows = disksOf(look).map(({ device, name, kind, size }) => [
    `${device}`,
    name,
    kind,
    humanSize(size),
    `${size}`,
  ]);
  const columns = [
    { title: 'device', align: 'right' as const },
    { title: 'disk' },
    { title: 'kind' },
    { title: 'size', align: 'right' as const },
    { title: 'bytes', align: 'right' as const },
  ];
  return [
    ...lines,
    '',
    renderTable(
      paint,
      columns,
      rows.map((row) => row.map(printable)),
    ),
  ].join('\n');
}
