// SPDX-License-Identifier: MIT
// Every row of "what the real tool does with bad input", with its outcome there or a better one; and what it should
// have refused.

import { describe, expect, it } from 'vitest';
import { VmaReader } from '#vmar/formats/vma/reader.js';
import { DamageError, FailedError, type VmarError } from '#vmar/src/base/errors.js';
import { expectEveryDamageFound, refusalBy } from '../vmar/damage.js';
import { readGolden } from '../vmar/golden.js';
import { extract } from './extracted.js';
import {
  BLOCK,
  CLUSTER,
  extentOffsets,
  type ForgedEntry,
  forgeBlobs,
  forgeDisks,
  forgeExtent,
  forgeHeader,
  sealExtent,
  sealHeader,
} from './forge.js';
import { readSample } from './sample.js';

const SAMPLE = Buffer.from(readSample());
const OFFSETS = extentOffsets(SAMPLE);
const EXTENTS = OFFSETS.slice(0, -1).map((from, index) => SAMPLE.subarray(from, OFFSETS[index + 1]));
const HEADER = SAMPLE.subarray(0, OFFSETS[0]);

function changed(archive: Buffer, change: (bytes: Buffer) => void): Buffer {
  const copy = Buffer.from(archive);
  change(copy);
  return copy;
}

/** The DamageError that the archive gets; it names the file. */
function damageOf(...parts: readonly Uint8Array[]): VmarError {
  const error = refusalBy(() => extract(Buffer.concat(parts)));
  expect(error).toBeInstanceOf(DamageError);
  expect(error.object).toBe('x.vma');
  return error;
}

describe('a bit of the payload that flipped', () => {
  it('is not seen, since the format has no checksum of it', () => {
    const first = OFFSETS[0]! + 512;
    const flipped = changed(SAMPLE, (bytes) => bytes.writeUInt8(bytes.readUInt8(first) ^ 1, first));
    expect(extract(flipped).calls).toEqual(extract(SAMPLE).calls);
  });
});

describe('extents', () => {
  it('that are missing at the end are missing clusters, by the names of their devices', () => {
    const error = damageOf(HEADER, ...EXTENTS.slice(0, -1));
    expect(error).toMatchObject({ code: 'vma-incomplete', offsetBytes: OFFSETS.at(-2) });
    expect(error.message).toMatch(/drive-scsi0: \d+ of 128 clusters, the first at \d+/);
    expect(damageOf(HEADER).message).toMatch(/scsi0: 128 of 128 clusters, the first at 0; .*scsi1: 81 of 81/);
    const middle = damageOf(HEADER, ...EXTENTS.slice(1));
    expect(middle).toMatchObject({ code: 'vma-incomplete', offsetBytes: SAMPLE.byteLength - EXTENTS[0]!.byteLength });
  });

  it('may come in any order, with devices interleaved', () => {
    const straight = extract(SAMPLE).contents;
    const reversed = extract(Buffer.concat([HEADER, ...EXTENTS.toReversed()])).contents;
    for (const [id, content] of straight) expect(Buffer.from(reversed.get(id)!).equals(content)).toBe(true);
  });

  it('that list a cluster again are refused, in one extent or in two', () => {
    const first = EXTENTS[0]!;
    expect(damageOf(HEADER, first, ...EXTENTS)).toMatchObject({
      code: 'vma-cluster',
      offsetBytes: OFFSETS[1]! + 40,
      message: expect.stringMatching(/cluster 0 of device drive-scsi\d is there twice/),
    });
    const twice = damageOf(
      forgeDisks([CLUSTER]),
      forgeExtent([
        [1, 0, 1],
        [1, 0, 0],
      ]),
    );
    expect(twice).toMatchObject({ code: 'vma-cluster', offsetBytes: 12800 + 48 });
  });

  it('with a wrong checksum, of another archive, or with a reserved field that is set are refused', () => {
    const at = OFFSETS[1]!;
    const refused = (change: (bytes: Buffer) => void, seal = true) => {
      const error = damageOf(
        changed(SAMPLE, (bytes) => {
          change(bytes);
          if (seal) sealExtent(bytes, at);
        }),
      );
      expect(error).toMatchObject({ code: 'vma-extent', offsetBytes: at });
      return error.message;
    };
    expect(refused((bytes) => bytes.writeUInt8(1, at + 511), false)).toContain('checksum');
    expect(refused((bytes) => bytes.writeUInt8(0x77, at + 30), false)).toContain('checksum');
    expect(refused((bytes) => bytes.writeUInt8(bytes.readUInt8(at + 8) ^ 1, at + 8))).toContain('another archive');
    expect(refused((bytes) => bytes.writeUInt16BE(1, at + 4))).toContain('laid out');
    expect(refused((bytes) => bytes.write('VMAX', at, 'latin1'))).toContain('no extent');
  });

  it('whose masks do not add up to their length are refused', () => {
    const header = forgeDisks([3 * CLUSTER]);
    for (const blockCount of [0, 1, 3, 945, 65535]) {
      const error = damageOf(header, forgeExtent([[1, 0, 3]], { blockCount, blocks: blockCount % 100 }));
      expect(error).toMatchObject({ code: 'vma-extent', offsetBytes: 12800, found: '2 blocks' });
    }
  });

  it('may have gaps between their entries, bits in reserved bytes, and 59 clusters', () => {
    const entries = Array.from({ length: 59 }, (_, cluster): ForgedEntry => [1, cluster, cluster % 3]);
    const change = (bytes: Buffer) => bytes.writeUInt8(0xff, 40 + 2);
    const { summary } = extract(Buffer.concat([forgeDisks([59 * CLUSTER]), forgeExtent(entries, { change })]));
    expect(summary).toMatchObject({ clusters: 59, extents: 1 });
    const gaps = forgeExtent([
      [0, 77, 0xffff],
      [1, 0, 1],
      [0, 0, 0],
      [1, 1, 2],
    ]);
    const { contents } = extract(Buffer.concat([forgeDisks([2 * CLUSTER]), gaps]));
    expect(contents.get(1)![0]).toBe(1);
    expect(contents.get(1)![CLUSTER + BLOCK]).toBe(2);
  });

  it('may be empty', () => {
    const empty = forgeExtent([]);
    expect(extract(Buffer.concat([forgeDisks([]), empty, empty])).summary).toMatchObject({ extents: 2, clusters: 0 });
  });
});

describe('an archive cut off', () => {
  it('says where it ends, wherever that is', () => {
    for (const length of [12, 100, 12287, 12288, 12799]) {
      expect(damageOf(SAMPLE.subarray(0, length))).toMatchObject({ code: 'vma-cut', offsetBytes: length });
    }
    for (const [index, offset] of OFFSETS.slice(0, -1).entries()) {
      for (const more of [1, 4, 5, 511, 512, 513, 4607, 4609]) {
        if (offset + more >= OFFSETS[index + 1]!) continue;
        const error = damageOf(SAMPLE.subarray(0, offset + more));
        expect(error).toMatchObject({ code: 'vma-cut', offsetBytes: offset + more });
      }
    }
  });

  it.each([1, 100, 511])('or with %i bytes behind it is refused', (length) => {
    const error = damageOf(SAMPLE, Buffer.alloc(length));
    expect(error).toMatchObject({ code: 'vma-extent', offsetBytes: SAMPLE.byteLength, found: `${length} bytes` });
  });

  it.each([512, 5000])('or with %i bytes behind it is refused', (length) => {
    expect(damageOf(SAMPLE, Buffer.alloc(length))).toMatchObject({
      code: 'vma-extent',
      offsetBytes: SAMPLE.byteLength,
    });
  });

  it('and every bit that flips in its headers, is found', () => {
    const small = Buffer.from(forgeDisks([1]));
    const extent = forgeExtent([[1, 0, 0]]);
    expectEveryDamageFound(Buffer.concat([small, extent]), (bytes) => extract(bytes));
  }, 120_000);

  it('at any byte, is found in the golden archive', () => {
    const archive = Buffer.from(readGolden('vma'));
    for (let length = 0; length < archive.byteLength; length++) damageOf(archive.subarray(0, length));
  }, 120_000);
});

describe('a header', () => {
  it('with a wrong checksum is refused, also when the version changed with it', () => {
    for (const at of [7, 9, 31, 33, 500, 3000, 12289]) {
      const error = damageOf(changed(SAMPLE, (bytes) => bytes.writeUInt8(bytes.readUInt8(at) ^ 1, at)));
      expect(error).toMatchObject({ code: 'vma-header', offsetBytes: 0 });
    }
  });

  it('of a newer version is told from damage', () => {
    const ofVersion = (version: number) => {
      const set = changed(SAMPLE, (bytes) => bytes.writeUInt32BE(version, 4));
      return sealHeader(set);
    };
    const error = refusalBy(() => extract(ofVersion(2)));
    expect(error).toBeInstanceOf(FailedError);
    expect(error).toMatchObject({ code: 'newer-version', found: 'version 2' });
    expect(damageOf(ofVersion(0))).toMatchObject({
      code: 'vma-header',
      offsetBytes: 4,
    });
  });

  it('may have bits in its reserved fields', () => {
    const set = changed(SAMPLE, (bytes) => {
      for (const at of [60, 2043, 4092, 4096, 4127, 4096 + 32 + 4, 4096 + 32 + 16, 4096 + 64 + 31]) bytes[at] = 0xff;
      sealHeader(bytes);
    });
    expect(extract(set).calls).toEqual(extract(SAMPLE).calls);
  });

  it('may be padded to nothing, and its blobs may stand further back', () => {
    const { blobs, pointers } = forgeBlobs('d\0');
    const devices = [[1, pointers[0]!, 1n]] as const;
    for (const options of [
      { headerSize: 12288 + blobs.byteLength },
      { blobOffset: 20000 },
      { blobOffset: 12345, headerSize: 12345 + blobs.byteLength },
    ]) {
      const header = forgeHeader({ blobs, devices, ...options });
      expect(extract(Buffer.concat([header, forgeExtent([[1, 0, 1]])])).contents.get(1)).toEqual(Uint8Array.of(1));
    }
  });

  it('whose lengths contradict each other is refused', () => {
    const blobs = Buffer.alloc(100);
    const cases = [{ blobSize: 513 }, { blobSize: 0xffffffff }, { blobOffset: 12800, headerSize: 12800 }];
    for (const options of cases) {
      expect(damageOf(forgeHeader({ blobs, ...options }))).toMatchObject({ code: 'vma-header', offsetBytes: 48 });
    }
    const early = forgeHeader({ blobs, change: (bytes) => bytes.writeUInt32BE(12287, 48) });
    expect(damageOf(early)).toMatchObject({ code: 'vma-header', offsetBytes: 48 });
    for (const headerSize of [0, 60, 12288, (64 << 20) + 1, 0x7fffffff, 0xffffffff]) {
      const start = changed(SAMPLE, (bytes) => bytes.writeUInt32BE(headerSize, 56));
      expect(damageOf(start)).toMatchObject({ code: 'vma-header', offsetBytes: 56 });
    }
  });

  it('with a config pointer that dangles is refused', () => {
    const { blobs, pointers } = forgeBlobs('a.conf\0', 'content', 'x');
    const [name, data] = pointers as [number, number];
    const pairs = [
      [name + 1, data],
      [name, data + 1],
      [9999, data],
      [name, 0xffffffff],
      [data, name],
    ] as const;
    for (const pair of pairs) {
      const error = damageOf(forgeHeader({ blobs, configs: [pair] }));
      expect(error.code).toBe('vma-header');
      expect([2044, 3068]).toContain(error.offsetBytes);
    }
    for (const pair of [
      [0, data],
      [name, 0],
      [0, 9999],
    ] as const) {
      expect(extract(forgeHeader({ blobs, configs: [pair] })).header.configs).toEqual([]);
    }
    const cut = forgeHeader({ blobs, blobSize: blobs.byteLength - 5, configs: [[name, data]] });
    expect(damageOf(cut)).toMatchObject({ code: 'vma-header', offsetBytes: 3068 });
  });

  it('with names that are no file names is refused', () => {
    const names = ['', '.', '..', '../x', '/etc/passwd', 'a/b', 'a\nb', '\u0007', 'x'.repeat(256)];
    const bad = [...names.map((name) => Buffer.from(`${name}\0`)), Buffer.of(0xff, 0xfe, 0), Buffer.of(0xc0, 0x80, 0)];
    for (const name of bad) {
      const { blobs, pointers } = forgeBlobs(name, 'content');
      const [namePointer, data] = pointers as [number, number];
      expect(damageOf(forgeHeader({ blobs, devices: [[9, namePointer, 1n]] }))).toMatchObject({
        code: 'vma-header',
        offsetBytes: 4096 + 9 * 32,
      });
      expect(damageOf(forgeHeader({ blobs, configs: [[namePointer, data]] }))).toMatchObject({ offsetBytes: 2044 });
    }
  });

  it('reads names up to their NUL, as the real tool does, and knows no device without one', () => {
    const { blobs, pointers } = forgeBlobs('a\0../b\0', 'unterminated', '');
    const devices = pointers.map((pointer, index) => [index + 1, pointer, 1n] as const);
    const { header } = extract(Buffer.concat([forgeHeader({ blobs, devices }), forgeExtent([[1, 0, 0]])]));
    expect(header.devices).toEqual([{ id: 1, name: 'a', sizeBytes: 1 }]);
    expect(damageOf(forgeHeader({ blobs, devices }), forgeExtent([[2, 0, 0]])).message).toContain('device 2');
  });

  it('may have two configs of one name, but not two devices', () => {
    const { blobs, pointers } = forgeBlobs('a\0', 'one', 'two');
    const [name, one, two] = pointers as [number, number, number];
    const { configs } = extract(
      forgeHeader({
        blobs,
        configs: [
          [name, one],
          [name, two],
        ],
      }),
    ).header;
    expect(configs.map((config) => [config.name, Buffer.from(config.content).toString()])).toEqual([
      ['a', 'one'],
      ['a', 'two'],
    ]);
    expect(
      damageOf(
        forgeHeader({
          blobs,
          devices: [
            [1, name, 1n],
            [254, name, 1n],
          ],
        }),
      ).message,
    ).toContain('called a');
  });

  it('takes the devices 1 to 254, not 255, and nothing at 0', () => {
    const { blobs, pointers } = forgeBlobs(...Array.from({ length: 256 }, (_, id) => `d${id}\0`));
    const devices = pointers.map((pointer, id) => [id, pointer, 1n] as const);
    const header = forgeHeader({ blobs, devices: devices.slice(0, 255) });
    const extents = [0, 59, 118, 177, 236].map((from) => {
      const ids = Array.from({ length: 59 }, (_, index) => from + index).filter((id) => id <= 254);
      return forgeExtent(ids.map((id): ForgedEntry => [id, 0, 0]));
    });
    expect(extract(Buffer.concat([header, ...extents])).summary.clusters).toBe(254);
    expect(damageOf(forgeHeader({ blobs, devices }))).toMatchObject({ offsetBytes: 4096 + 255 * 32, found: '255' });
  });

  it('that claims devices of 2^48 bytes and more takes no memory for them, or is refused', () => {
    const { blobs, pointers } = forgeBlobs(...Array.from({ length: 254 }, (_, index) => `d${index}\0`));
    const all = (size: bigint) =>
      forgeHeader({ blobs, devices: pointers.map((name, index) => [index + 1, name, size]) });
    for (const size of [2n ** 48n + 1n, 2n ** 53n, 2n ** 63n - 1n, 2n ** 63n, 2n ** 64n - 1n]) {
      expect(damageOf(all(size))).toMatchObject({ code: 'vma-header', offsetBytes: 4096 + 32 });
    }
    const before = process.memoryUsage().arrayBuffers;
    const reader = new VmaReader({ header: () => {}, cluster: () => {} });
    reader.push(all(2n ** 48n));
    reader.push(
      forgeExtent([
        [1, 0, 0],
        [254, 2 ** 32 - 1, 0xffff],
      ]),
    );
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(4 << 20);
    expect(refusalBy(() => reader.end()).message).toContain(`d0: ${2 ** 32 - 1} of ${2 ** 32} clusters`);
  });

  it('of 524288 bytes full of hostile pointers is read or refused in no time', () => {
    const blobs = Buffer.alloc(524288 - 12288, 1);
    // All blobs empty: two bytes each.
    for (const fill of [0x00, 0x01, 0xff]) {
      blobs.fill(fill);
      const change = (bytes: Buffer) => {
        for (let at = 60; at < 12288; at += 4) bytes.writeUInt32BE((at * 2654435761) % 512000, at);
      };
      const header = forgeHeader({ blobs, change });
      expect(header.byteLength).toBe(524288);
      expect(refusalBy(() => extract(header))).toBeInstanceOf(DamageError);
    }
  });
});

describe('a cluster', () => {
  it('past its device, by one or by four thousand million, is refused', () => {
    const header = forgeDisks([CLUSTER + 1, 5]);
    for (const cluster of [2, 63, 64, 2 ** 31, 2 ** 32 - 1]) {
      expect(
        damageOf(
          header,
          forgeExtent([
            [2, 0, 0],
            [1, cluster, 0],
          ]),
        ),
      ).toMatchObject({
        code: 'vma-cluster',
        offsetBytes: 12800 + 48,
        message: `cluster ${cluster} lies past the end of device d1`,
      });
    }
  });

  it('of a device that is not there is refused', () => {
    for (const device of [2, 254, 255]) {
      expect(damageOf(forgeDisks([CLUSTER]), forgeExtent([[device, 0, 0]]))).toMatchObject({
        code: 'vma-cluster',
        message: expect.stringContaining(`device ${device}`),
      });
    }
  });

  it('with blocks past the end of its device is refused, but a whole one is cut there, as the real tool does', () => {
    const header = forgeDisks([2 * BLOCK + 1]);
    expect(damageOf(header, forgeExtent([[1, 0, 0b1000]]))).toMatchObject({ code: 'vma-cluster', offsetBytes: 12840 });
    expect(damageOf(header, forgeExtent([[1, 0, 0x7fff]]))).toMatchObject({ code: 'vma-cluster' });
    const { calls, contents } = extract(Buffer.concat([header, forgeExtent([[1, 0, 0xffff]])]));
    expect(calls).toEqual([`1 0 7 ${12800 + 512}`]);
    expect(contents.get(1)!.at(-1)).toBe(3);
  });

  it('is refused when too many lie scattered to keep count in bounded memory', () => {
    const header = forgeDisks([2 ** 48]);
    const reader = new VmaReader({ header: () => {}, cluster: () => {} });
    reader.push(header);
    const scatter = () => {
      for (let page = 0; page < 2 ** 17; page += 59) {
        const last = Math.min(page + 59, 2 ** 17);
        const entries = Array.from({ length: last - page }, (_, at): ForgedEntry => [1, (page + at) * 32768, 0]);
        reader.push(forgeExtent(entries));
      }
    };
    const error = refusalBy(scatter);
    expect(error).toBeInstanceOf(FailedError);
    expect(error.code).toBe('vma-scattered');
    expect(process.memoryUsage().arrayBuffers).toBeLessThan(400 << 20);
  });
});

describe('the state of a guest', () => {
  it('comes in its order, as long as it likes', () => {
    const header = forgeDisks([1], ['vmstate']);
    const good = Buffer.concat([
      header,
      forgeExtent([
        [1, 0, 0xffff],
        [1, 1, 0],
      ]),
      forgeExtent([[1, 2, 0x8000]]),
    ]);
    expect(extract(good).contents.get(1)!.byteLength).toBe(3 * CLUSTER);
    expect(extract(header).summary.clusters).toBe(0);
    for (const wrong of [
      [[1, 1, 0]],
      [
        [1, 0, 0],
        [1, 0, 0],
      ],
      [
        [1, 0, 0],
        [1, 2, 0],
      ],
    ] as ForgedEntry[][]) {
      expect(damageOf(header, forgeExtent(wrong))).toMatchObject({
        code: 'vma-cluster',
        message: expect.stringContaining('not in its turn'),
      });
    }
  });
});

describe('the reader', () => {
  it('refuses what is no archive at its first bytes', () => {
    for (const text of ['', 'V', 'x', 'VMA', 'not an archive at all', '\u0028\u00b5/\u00fd'.padEnd(100)]) {
      const error = damageOf(Buffer.from(text, 'latin1'));
      expect(error.code).toBe(text === '' || 'VMA'.startsWith(text) ? 'vma-cut' : 'no-vma');
    }
    const reader = new VmaReader({ header: () => {}, cluster: () => {} }, { file: 'y' });
    expect(refusalBy(() => reader.push(Buffer.alloc(60)))).toMatchObject({
      code: 'no-vma',
      object: 'y',
      offsetBytes: 0,
    });
  });

  it('throws again what it threw, also what its handler threw', () => {
    const reader = new VmaReader({
      header: () => {},
      cluster: () => {
        throw new Error('full');
      },
    });
    expect(() => reader.push(SAMPLE)).toThrow('full');
    expect(() => reader.push(SAMPLE)).toThrow('full');
    expect(() => reader.end()).toThrow('full');
  });
});
