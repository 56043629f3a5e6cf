// SPDX-License-Identifier: MIT
// Proves, with a real qemu-system that has firmware variables and a TPM: what is outside of the disks is told when it is
// not kept, with the words that keep it; and what the guest is, is kept as a file that says the same every night.

import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Bench } from '../cli/bench.js';
import { isListening } from './listening.js';
import { haveMachine, type Machine, startMachine } from './machine.js';

const FIRMWARE = '/usr/share/seabios/bios-256k.bin';

function haveTpm(): boolean {
  if (spawnSync('swtpm', ['--version']).error === undefined && existsSync(FIRMWARE)) return true;
  console.warn('\n!!! swtpm or seabios is missing: NOT TESTED: what a guest keeps outside of its disks\n');
  return false;
}

const have = haveMachine('what a guest keeps outside of its disks') && haveTpm();

describe.skipIf(!have)('what a guest keeps outside of its disks', () => {
  const bench = new Bench();
  let machine: Machine;
  let swtpm: ChildProcess;

  beforeAll(async () => {
    mkdirSync(bench.path('fleece'));
    mkdirSync(bench.path('tpm'));
    writeFileSync(bench.path('vars.fd'), Buffer.alloc(131_072, 7));
    spawnSync('qemu-img', ['create', '-q', '-f', 'qcow2', bench.path('a.qcow2'), '4M']);
    const control = bench.path('tpm.sock');
    const words = [
      'socket',
      '--tpm2',
      '--tpmstate',
      `dir=${bench.path('tpm')}`,
      '--ctrl',
      `type=unixio,path=${control}`,
    ];
    swtpm = spawn('swtpm', words, { stdio: 'ignore' });
    while (!isListening(control) && swtpm.exitCode === null) await delay(10);
    machine = await startMachine(bench.directory, [
      ...['-drive', `if=pflash,format=raw,readonly=on,file=${FIRMWARE}`],
      ...['-drive', `if=pflash,format=raw,file=${bench.path('vars.fd')}`],
      ...['-chardev', `socket,id=tpmchar,path=${control}`, '-tpmdev', 'emulator,id=tpm0,chardev=tpmchar'],
      ...['-device', 'tpm-tis,tpmdev=tpm0', '-netdev', 'user,id=n0'],
      ...['-device', 'virtio-net-pci,netdev=n0,mac=52:54:00:12:34:56,id=net0'],
      ...['-drive', `if=none,id=drive-scsi0,format=qcow2,file=${bench.path('a.qcow2')}`],
      ...['-device', 'virtio-scsi-pci', '-device', 'scsi-hd,drive=drive-scsi0,id=scsi0'],
    ]);
    await bench.json(['init', 'store']);
  });

  afterAll(async () => {
    await machine?.kill();
    swtpm?.kill();
  });

  const words = (...more: string[]) => [
    ...['backup', '100', '--qmp', machine.qmp, '--fleece', bench.path('fleece')],
    ...more,
  ];

  it('is told when it is not kept', async () => {
    const { stderr, json } = await bench.run(['--json', ...words()]);
    expect(stderr).toContain(`(pflash1) are not kept; --blob ${bench.path('vars.fd')} keeps them`);
    expect(stderr).toMatch(/TPM tpm0 is not kept; --blob FILE keeps it, where FILE is swtpm's/);
    expect(json().notKept).toEqual([
      { kind: 'firmware-variables', name: 'pflash1', path: bench.path('vars.fd') },
      { kind: 'tpm', name: 'tpm0' },
    ]);
    expect(json().disks.map(({ name }: { name: string }) => name)).toEqual(['drive-scsi0']);
    expect(json().skipped).toContainEqual({ name: 'pflash0', reason: 'firmware' });
  });

  it('is kept with --blob, and then not told of', async () => {
    // swtpm writes its state when the guest begins to use it; the firmware here does.
    const state = bench.path('tpm', 'tpm2-00.permall');
    for (let turn = 0; !existsSync(state) && turn < 500; turn++) await delay(10);
    const { stderr, json } = await bench.run(['--json', ...words('--blob', 'vars.fd', '--blob', state)]);
    expect(stderr).not.toMatch(/not kept/);
    expect(json().notKept).toEqual([]);
    rmSync(bench.path('out'), { recursive: true, force: true });
    await bench.json(['restore', json().backup, '--to', 'out']);
    expect(readFileSync(bench.path('out', 'vars.fd')).equals(readFileSync(bench.path('vars.fd')))).toBe(true);
    expect(readFileSync(bench.path('out', 'tpm2-00.permall')).equals(readFileSync(state))).toBe(true);
  });

  it('one of them alone is told of', async () => {
    const { json } = await bench.run(['--json', ...words('--blob', 'vars.fd')]);
    expect(json().notKept).toEqual([{ kind: 'tpm', name: 'tpm0' }]);
  });

  it('keeps what the guest is', async () => {
    const config = async () => (await bench.run(['show', '100', '--config', 'qemu-guest.json'])).text;
    await bench.json(words());
    const first = await config();
    await bench.json(words());
    expect(await config()).toBe(first);
    const guest = JSON.parse(first);
    expect(guest).toMatchObject({
      name: 'web',
      memory: { baseBytes: 64 << 20, pluggedBytes: 0 },
      cpus: { count: 1, target: 'x86_64', model: 'qemu64-x86_64-cpu' },
      accelerator: 'tcg',
      network: [{ name: 'net0', mac: '52:54:00:12:34:56' }],
      tpm: [{ id: 'tpm0', model: 'tpm-tis', type: 'emulator' }],
    });
    expect(guest.machine).toMatch(/^pc-i440fx-.*-machine$/);
    expect(guest.qemu.major).toBeGreaterThanOrEqual(7);
    const drive = guest.drives.find(({ name }: { name: string }) => name === 'drive-scsi0');
    expect(drive).toMatchObject({ device: 'scsi0', type: 'scsi-hd', image: { driver: 'qcow2', sizeBytes: 4 << 20 } });
    expect(guest.pci.some(({ qdev, id }: { qdev: string; id: string }) => qdev === 'net0' && id === '1af4:1000')).toBe(
      true,
    );
  });

  it('goes behind a file of the same name that the user gave', async () => {
    mkdirSync(bench.path('mine'));
    writeFileSync(bench.path('mine', 'qemu-guest.json'), 'mine');
    await bench.json(words('--config', 'mine/qemu-guest.json'));
    expect((await bench.run(['show', '100', '--config', 'qemu-guest.json'])).text).toBe('mine');
    expect((await bench.json(['show', '100'])).configs.length).toBe(1);
  });
});
