#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""A second reader of vmar, written from formats/vmar/SPEC.md and vmar.proto alone. Restores one disk:

    second-reader.py DATASTORE GUEST DISK OUT [TIME]     GUEST: 100 or ns/vm/100; TIME: 2026-11-21T02:00:00Z
    second-reader.py ARCHIVE.vmar DISK OUT

Needs Debian's python3-zstandard; BLAKE3 is below. Whatever it reads is checked first; damage ends it with status 3.
"""
import functools, glob, hmac, os, struct, sys
from array import array

IV = (0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19)
ORDER = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
QUARTERS = ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
            (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14))
START, END, PARENT, ROOT, KEYED, DERIVE_CONTEXT, DERIVE_MATERIAL = (1 << bit for bit in range(7))


def lanes(words):
    """One number of all words, 64 bits each, so that one operation works on all of them."""
    return int.from_bytes(array("Q", words).tobytes(), "little")


def compress(count, values, message, counter, length, flags):
    ones = lanes([1] * count)
    mask = ones * 0xFFFFFFFF
    v = list(values) + [ones * word for word in IV[:4]] + [counter, 0, ones * length, ones * flags]

    def mix(target, left, right, turn):
        mixed = v[left] ^ v[right]
        v[target] = (mixed >> turn | mixed << (32 - turn)) & mask

    for _ in range(7):
        for at, (a, b, c, d) in enumerate(QUARTERS):
            v[a] = (v[a] + v[b] + message[2 * at]) & mask
            mix(d, d, a, 16)
            v[c] = (v[c] + v[d]) & mask
            mix(b, b, c, 12)
            v[a] = (v[a] + v[b] + message[2 * at + 1]) & mask
            mix(d, d, a, 8)
            v[c] = (v[c] + v[d]) & mask
            mix(b, b, c, 7)
        message = [message[place] for place in ORDER]
    return [v[at] ^ v[at + 8] for at in range(8)]


def split(count, values):
    """Lanes back into one node of eight words for each."""
    return list(zip(*(array("Q", value.to_bytes(8 * count, "little")) for value in values)))


def blake3(data, key, flags):
    whole = (len(data) - 1) // 1024 if data else 0  # all chunks but the last
    nodes = []
    if whole:
        words = array("I", data[: whole * 1024])
        values = [lanes([word] * whole) for word in key]
        for at in range(16):
            message = [lanes(words[at * 16 + place :: 256]) for place in range(16)]
            ends = (START if at == 0 else 0) | (END if at == 15 else 0)
            values = compress(whole, values, message, lanes(range(whole)), 64, flags | ends)
        nodes = split(whole, values)
    last, values = data[whole * 1024 :], key
    for at in range(0, max(len(last), 1), 64):
        block = last[at : at + 64]
        ends = (START if at == 0 else 0) | (END | (0 if nodes else ROOT) if at + 64 >= len(last) else 0)
        message = struct.unpack("<16I", block.ljust(64, b"\0"))
        values = compress(1, values, message, whole, len(block), flags | ends)
    nodes.append(tuple(values))
    while len(nodes) > 1:
        pairs = [left + right for left, right in zip(nodes[::2], nodes[1::2])]
        message = [lanes(words) for words in zip(*pairs)]
        keys = [lanes([word] * len(pairs)) for word in key]
        root = ROOT if len(nodes) == 2 else 0
        parents = compress(len(pairs), keys, message, 0, 64, flags | PARENT | root)
        nodes = split(len(pairs), parents) + nodes[len(pairs) * 2 :]
    return struct.pack("<8I", *nodes[0])


def blake3_keyed(key, data):
    return blake3(data, struct.unpack("<8I", key), KEYED)


def blake3_derive(context, material):
    key = blake3(context, IV, DERIVE_CONTEXT)
    return blake3(material, struct.unpack("<8I", key), DERIVE_MATERIAL)


@functools.cache
def context_key(algorithm, context):
    text, zero_key = b"vmar v1 " + context.encode(), bytes(32)
    return blake3_derive(text, zero_key) if algorithm == 1 else hmac.digest(zero_key, text, "sha256")


def digest(algorithm, context, data):
    """H of section 1, with the all-zero key."""
    key = context_key(algorithm, context)
    return blake3_keyed(key, data) if algorithm == 1 else hmac.digest(key, data, "sha256")


class Damage(Exception):
    pass


def check(good, what):
    if not good:
        raise Damage(what)


def check_seal(algorithm, data, seal, what):
    check(digest(algorithm, "seal", data)[:16] == seal, f"{what}: wrong seal")


def open_envelope(data, magic, context):
    check(len(data) >= 72 and data[:8] == magic, "not the envelope it should be")
    version, algorithm, zero, length, incompatible = struct.unpack_from("<HBBIQ", data, 8)
    check(algorithm in (1, 2) and length <= 16 << 20 and len(data) == length + 72, "envelope: wrong length")
    check(digest(algorithm, context, data[:-32]) == data[-32:], "envelope: wrong digest")
    check(version == 1 and incompatible == 0 and zero == 0, "envelope: a newer version or unknown features")
    return algorithm, data[40:-32]


def fields(message):
    """All fields of a protobuf message, lists by field number: numbers and bytes."""
    found, at = {}, 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at, value, shift = at + 1, value | (byte & 127) << shift, shift + 7
            if byte < 128:
                return value

    while at < len(message):
        number, kind = divmod(varint(), 8)
        check(kind in (0, 2), "protobuf: an unknown type of field")
        value = varint()
        if kind == 2:
            at, value = at + value, message[at : at + value]
        found.setdefault(number, []).append(value)
    check(at == len(message), "protobuf: cut off")
    return found


class Container:
    def __init__(self, path):
        self.path, self.file = path, open(path, "rb")
        size = os.fstat(self.file.fileno()).st_size
        head = self.read(0, 256)
        check(head[:8] == b"\x89VMAR\r\n\x1a" and head[92] in (1, 2), f"{path}: not a container")
        self.algorithm = head[92]
        check_seal(self.algorithm, head[:240], head[240:], f"{path}: header")
        version, length, _, incompatible = struct.unpack_from("<HHIQ", head, 8)
        check((version, length, incompatible) == (1, 256, 0), f"{path}: a newer version or unknown features")
        self.id = head[40:56]
        foot = self.read(size - 128, 128)
        check(foot[:8] == b"VMARTAIL" and foot[8:24] == self.id, f"{path}: no footer of this container")
        check_seal(self.algorithm, foot[:112], foot[112:], f"{path}: footer")
        chunks, frames, chunk_table, frame_table, told, self.manifest_at = struct.unpack_from("<6Q", foot, 24)
        check(told == size and frame_table <= size, f"{path}: another length than its footer says")
        self.frames = [struct.unpack("<QIIIB3x16s", entry) for entry in self.table(frame_table, frames, 40, 409)]
        self.chunks = {}
        for entry in self.table(chunk_table, chunks, 48, 341):
            self.chunks.setdefault(entry[:32], struct.unpack_from("<IIIB", entry, 32))

    def read(self, offset, length):
        check(0 <= offset and length <= 64 << 20, f"{self.path}: an impossible place")
        self.file.seek(offset)
        data = self.file.read(length)
        check(len(data) == length, f"{self.path}: cut off at {offset}")
        return data

    def table(self, offset, count, entry, per_page):
        while count > 0:
            length = min(count, per_page) * entry
            page = self.read(offset, length + 16)
            place = self.id + struct.pack("<Q", offset)
            check_seal(self.algorithm, place + page[:length], page[length:], f"{self.path}: table at {offset}")
            yield from (page[at : at + entry] for at in range(0, length, entry))
            offset, count = offset + length + 16, count - per_page

    def open_frame(self, offset, stored, raw, codec, seal, most=4 << 20):
        import zstandard  # here, so that the hashes above can be tested without it
        check(0 < stored <= raw <= most and codec in (0, 1), f"{self.path}: an impossible frame")
        data = self.read(offset, stored)
        check_seal(self.algorithm, data, seal, f"{self.path}: frame at {offset}")
        if codec == 1:
            check(zstandard.frame_content_size(data) in (-1, raw), f"{self.path}: frame at {offset}: wrong length")
            data = zstandard.ZstdDecompressor().decompress(data, max_output_size=raw)
        check(len(data) == raw, f"{self.path}: frame at {offset}: wrong length")
        return data

    def manifest(self):
        head = self.read(self.manifest_at, 96 + 48 + 32)
        check(head[:5] == b"VMAX\3" and head[8:24] == self.id, f"{self.path}: no manifest")
        offset, _, chunks, frames = struct.unpack_from("<QIII", head, 24)
        check((offset, chunks, frames) == (self.manifest_at, 1, 1), f"{self.path}: no manifest")
        check_seal(self.algorithm, head[:80] + head[96:], head[80:96], f"{self.path}: manifest extent")
        stored, raw, _, codec, seal = struct.unpack_from("<IIIB3x16s", head, 144)
        data = self.open_frame(self.manifest_at + 176, stored, raw, codec, seal, (16 << 20) + 72)
        check(data[-32:] == head[96:128], f"{self.path}: another manifest than its extent says")
        return data


class Reader:
    """Reads the disks of one manifest out of containers."""

    def __init__(self, envelope, containers):
        self.algorithm, payload = open_envelope(envelope, b"VMARMANI", "manifest")
        self.manifest, self.containers, self.cache = fields(payload), containers, {}
        self.fanout = self.manifest[19][0]

    def chunk(self, id, kind):
        for container in self.containers:
            if id in container.chunks and container.algorithm == self.algorithm:
                number, offset, length, found = container.chunks[id]
                key = container.path, number
                if key not in self.cache:
                    at, stored, raw, _, codec, seal = container.frames[number]
                    if len(self.cache) > 16:
                        self.cache.clear()
                    self.cache[key] = container.open_frame(at, stored, raw, codec, seal)
                data = self.cache[key][offset : offset + length]
                context = "chunk data" if kind == 0 else f"chunk map {kind}"
                check(found == kind and digest(self.algorithm, context, data) == id, f"chunk {id.hex()}: wrong content")
                return data
        raise Damage(f"chunk {id.hex()} is missing")

    def restore(self, name, path):
        disks = [fields(disk) for disk in self.manifest.get(11, [])]
        disk = next((disk for disk in disks if disk[1][0].decode() == name), None)
        if disk is None:
            sys.exit(f"no such disk: {name}")
        size, cluster = disk.get(3, [0])[0], disk[4][0]
        clusters, level = -(-size // cluster), 0
        while clusters and (level == 0 or self.fanout**level < clusters):
            level += 1
        with open(path, "wb") as out:
            out.truncate(size)
            if level:
                self.walk(out, disk[5][0], level, 0, clusters, cluster, size)

    def walk(self, out, id, level, index, clusters, cluster, size):
        """Writes what lies below page `index` of `level`; level 0 is a cluster."""
        if id == bytes(32):
            return
        data = self.chunk(id, level)
        if level == 0:
            check(len(data) == min(cluster, size - index * cluster), f"cluster {index}: wrong length")
            out.seek(index * cluster)
            out.write(data)
            return
        below = -(-clusters // self.fanout ** (level - 1))
        count = min(self.fanout, below - index * self.fanout)
        check(len(data) == 32 * count, f"page {index} of level {level}: wrong length")
        for place in range(count):
            child = data[place * 32 : place * 32 + 32]
            self.walk(out, child, level - 1, index * self.fanout + place, clusters, cluster, size)


def main(arguments):
    if len(arguments) == 3:
        container = Container(arguments[0])
        return Reader(container.manifest(), [container]).restore(*arguments[1:])
    if len(arguments) not in (4, 5):
        sys.exit(__doc__)
    store, guest, disk, out = arguments[:4]
    with open(os.path.join(store, "datastore.pb"), "rb") as file:
        open_envelope(file.read(), b"VMARSTOR", "seal")
    directory = os.path.join(store, "manifests", guest if "/" in guest else f"vm/{guest}")
    found = sorted(glob.glob(os.path.join(glob.escape(directory), f"{(arguments + ['*'])[4]}.manifest")))
    if not found:
        sys.exit(f"no such backup: {guest}")
    packs = sorted(glob.glob(os.path.join(glob.escape(store), "packs", "??", "*.vmar")))
    with open(found[-1], "rb") as file:
        Reader(file.read(), [Container(pack) for pack in packs]).restore(disk, out)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (Damage, IndexError, KeyError, struct.error, OSError) as error:
        print(f"second-reader: {error!r}", file=sys.stderr)
        sys.exit(3)
