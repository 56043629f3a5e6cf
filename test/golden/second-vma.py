#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""A second reader and writer of .vma, made from formats/vma/SPEC.md alone.

    second-vma.py extract FILE DIR                 configs and disks into DIR; damage ends it with status 3
    second-vma.py strict FILE...                   what a writer keeps to, more than readers ask: see `strict`
    second-vma.py create FILE ORDER NAME=PATH ...   ORDER: straight, reversed or interleaved; *.conf is a config
"""
import hashlib, os, struct, sys

BLOCK, CLUSTER = 4096, 65536


class Damage(Exception):
    pass


def check(holds, what):
    if not holds:
        raise Damage(what)


def md5_without(data, at):
    return hashlib.md5(data[:at] + bytes(16) + data[at + 16 :]).digest()


def read_header(file):
    head = file.read(60)
    check(len(head) == 60 and head[:4] == b"VMA\0", "no archive")
    length = struct.unpack_from(">I", head, 56)[0]
    check(12288 < length <= 64 << 20, "header length")
    head += file.read(length - 60)
    check(len(head) == length and md5_without(head, 32) == head[32:48], "header checksum")
    check(struct.unpack_from(">I", head, 4)[0] == 1, "version")
    at, size = struct.unpack_from(">II", head, 48)
    check(at >= 12288 and at + size <= length, "blob buffer")
    buffer, blobs, place = head[at : at + size], {}, 1
    while place + 2 <= size:
        end = place + 2 + struct.unpack_from("<H", buffer, place)[0]
        if end <= size:
            blobs[place] = buffer[place + 2 : end]
        place = end

    def name(pointer):
        blob = blobs.get(pointer, b"")
        return blob.split(b"\0")[0].decode() if blob.endswith(b"\0") else None

    configs, devices = [], {}
    for slot in range(256):
        pointers = [struct.unpack_from(">I", head, base + 4 * slot)[0] for base in (2044, 3068)]
        if all(pointers):
            check(name(pointers[0]) and pointers[1] in blobs, "config pointer")
            configs.append((name(pointers[0]), blobs[pointers[1]]))
    for number in range(1, 255):
        pointer, _, length, mark, true = struct.unpack_from(">IIQ8sQ", head, 4096 + 32 * number)
        if length and name(pointer):
            if mark == b"vmarsize" and length - 512 < true <= length:
                length = true
            devices[number] = (name(pointer), length)
    return head[8:24], configs, devices


def extract(path, target):
    os.mkdir(target)
    with open(path, "rb") as file:
        uuid, configs, devices = read_header(file)
        for name, content in configs:
            with open(os.path.join(target, name), "wb") as out:
                out.write(content)
        outs, seen = {}, {number: set() for number in devices}
        for number, (name, length) in devices.items():
            outs[number] = open(os.path.join(target, "vmstate.bin" if name == "vmstate" else f"disk-{name}.raw"), "wb")
            outs[number].truncate(0 if name == "vmstate" else length)
        while head := file.read(512):
            check(len(head) == 512 and head[:4] == b"VMAE", "no extent")
            check(md5_without(head, 24) == head[24:40] and head[8:24] == uuid, "extent checksum or uuid")
            check(head[4:6] == b"\0\0", "reserved")
            entries = [struct.unpack_from(">HBBI", head, 40 + 8 * at) for at in range(59)]
            entries = [(number, cluster, mask) for mask, _, number, cluster in entries if number]
            blocks = struct.unpack_from(">H", head, 6)[0]
            check(sum(bin(mask).count("1") for _, _, mask in entries) == blocks, "sum of masks")
            for number, cluster, mask in entries:
                check(number in devices and cluster not in seen[number], "unknown or twice")
                name, length = devices[number]
                if name == "vmstate":
                    check(cluster == len(seen[number]), "order of vmstate")
                    length = (cluster + 1) * CLUSTER
                check(cluster * CLUSTER < length, "past the end")
                seen[number].add(cluster)
                for bit in range(16):
                    if mask >> bit & 1:
                        at = cluster * CLUSTER + bit * BLOCK
                        data = file.read(BLOCK)
                        check(len(data) == BLOCK, "cut")
                        check(at < length or mask == 0xFFFF, "block past the end")
                        outs[number].seek(at)
                        outs[number].write(data[: max(0, length - at)])
        for number, (name, length) in devices.items():
            outs[number].close()
            check(name == "vmstate" or len(seen[number]) == -(-length // CLUSTER), f"missing clusters of {name}")


def strict_header(head, length):
    """Every byte of the header: what is not a field is 0, and blobs lie end to end, each pointed to once."""
    check(length % 512 == 0 and length <= 524288, "header length")
    at, used = struct.unpack_from(">II", head, 48)
    check(at == 12288 and length == 12288 + -(-used // 512) * 512, "blob buffer is where and as long as it should be")
    check(not any(head[60:2044]) and not any(head[4092:4096]) and not any(head[4096:4128]), "reserved bytes")
    check(head[12288] == 0 and not any(head[12288 + used : length]), "padding of the blob buffer")
    blobs, place = {}, 1
    while place < used:
        size = struct.unpack_from("<H", head, 12288 + place)[0]
        check(place + 2 + size <= used, "blobs fill the buffer")
        blobs[place] = head[12290 + place : 12290 + place + size]
        place += 2 + size
    pointed = []

    def name(pointer):
        text = blobs.get(pointer)
        check(text is not None and text.endswith(b"\0") and text.count(b"\0") == 1, "a name ends with its only NUL")
        check(len(text) > 1 and b"/" not in text and text not in (b".\0", b"..\0"), "a base name")
        pointed.append(pointer)
        return text[:-1].decode()

    slots = [tuple(struct.unpack_from(">I", head, base + 4 * slot)[0] for base in (2044, 3068)) for slot in range(256)]
    configs = [pair for pair in slots if any(pair)]
    check(slots[: len(configs)] == configs, "configs stand from slot 0 on")
    names = [name(pointer) for pointer, _ in configs]
    check(len(set(names)) == len(names), "names of configs")
    for _, data in configs:
        check(data in blobs, "content of a config")
        pointed.append(data)
    devices = {}
    for number in range(1, 256):
        record = head[4096 + 32 * number : 4128 + 32 * number]
        if not any(record):
            continue
        pointer, reserved, size, mark, true = struct.unpack(">IIQ8sQ", record)
        check(number <= 254 and reserved == 0 and size > 0, "record of a device")
        text = name(pointer)
        if mark == b"vmarsize":
            check(size % 512 == 0 and size - 512 < true < size, "true length")
        else:
            check(not any(record[16:]), "reserved bytes of a device")
            check(size % 512 == 0 or text == "vmstate", "a length that the real tool would cut")
        devices[number] = (text, size, true if mark == b"vmarsize" else size)
    check(len({text for text, _, _ in devices.values()}) == len(devices), "names of devices")
    check(sorted(pointed) == sorted(blobs), "each blob is pointed to, once")
    return devices


def strict_file(path):
    with open(path, "rb") as file:
        head = file.read(60)
        check(len(head) == 60, "cut")
        length = struct.unpack_from(">I", head, 56)[0]
        head += file.read(length - 60)
        check(len(head) == length and head[:4] == b"VMA\0" and md5_without(head, 32) == head[32:48], "header")
        check(struct.unpack_from(">I", head, 4)[0] == 1 and any(head[8:24]), "version and uuid")
        devices, seen, was_full = strict_header(head, length), {}, True
        while extent := file.read(512):
            check(was_full, "only the last extent has fewer than 58 clusters")
            check(len(extent) == 512 and extent[:4] == b"VMAE" and extent[8:24] == head[8:24], "extent")
            check(extent[4:6] == b"\0\0" and md5_without(extent, 24) == extent[24:40], "extent checksum, reserved")
            entries = [struct.unpack_from(">HBBI", extent, 40 + 8 * at) for at in range(59)]
            listed = [entry for entry in entries if any(entry)]
            check(1 <= len(listed) <= 58 and entries[: len(listed)] == listed, "entries from the first on, 58 at most")
            was_full = len(listed) == 58
            blocks = 0
            for mask, reserved, number, cluster in listed:
                check(reserved == 0 and number in devices, "entry")
                text, size, true = devices[number]
                mine = seen.setdefault(number, set())
                check(cluster not in mine, "once")
                check(text != "vmstate" or cluster == len(mine), "vmstate in order")
                mine.add(cluster)
                start = cluster * CLUSTER
                check(text == "vmstate" or start < size, "in the device")
                for bit in range(16):
                    if mask >> bit & 1:
                        block = file.read(BLOCK)
                        begin = start + bit * BLOCK
                        check(len(block) == BLOCK, "cut")
                        check(text == "vmstate" or begin < size, "a bit past the end of the device")
                        check(text == "vmstate" or any(block), "a block of zeros is left out")
                        if text != "vmstate" and begin + BLOCK > true:
                            check(not any(block[true - begin :]), "zeros behind the end of the device")
                        blocks += 1
            check(blocks == struct.unpack_from(">H", extent, 6)[0], "block count")
        for number, (text, size, _) in devices.items():
            check(text == "vmstate" or len(seen.get(number, ())) == -(-size // CLUSTER), f"every cluster of {text}")


def strict(*paths):
    for path in paths:
        try:
            strict_file(path)
        except Damage as damage:
            raise Damage(f"{path}: {damage}")


def create(path, order, *sources):
    sources = [source.split("=", 1) for source in sources]
    contents = [(name, open(source, "rb").read()) for name, source in sources]
    configs = [item for item in contents if item[0].endswith(".conf")]
    disks = [item for item in contents if item not in configs]
    blobs = bytearray(1)

    def blob(data):
        pointer = len(blobs)
        blobs.extend(struct.pack("<H", len(data)) + data)
        return pointer

    head = bytearray(12288)
    uuid = os.urandom(16)
    struct.pack_into(">4sI16sq", head, 0, b"VMA\0", 1, uuid, 1795252074)
    for slot, (name, data) in enumerate(configs):
        struct.pack_into(">I", head, 2044 + 4 * slot, blob(name.encode() + b"\0"))
        struct.pack_into(">I", head, 3068 + 4 * slot, blob(data))
    for at, (name, data) in enumerate(disks):
        rounded = len(data) if name == "vmstate" else -(-len(data) // 512) * 512
        struct.pack_into(">IIQ", head, 4096 + 32 * (at + 1), blob(name.encode() + b"\0"), 0, rounded)
        if rounded != len(data):
            struct.pack_into(">8sQ", head, 4096 + 32 * (at + 1) + 16, b"vmarsize", len(data))
    used = len(blobs)
    head += blobs + bytes(-used % 512)
    struct.pack_into(">III", head, 48, 12288, used, len(head))
    head[32:48] = md5_without(bytes(head), 32)
    clusters = [(at, cluster) for at, (_, data) in enumerate(disks) for cluster in range(-(-len(data) // CLUSTER))]
    if order != "straight":
        clusters.sort(key=lambda item: item[1], reverse=order == "reversed")
    with open(path, "wb") as file:
        file.write(head)
        for start in range(0, len(clusters), 58):
            extent, blocks = bytearray(512), b""
            for place, (at, cluster) in enumerate(clusters[start : start + 58]):
                name, data = disks[at]
                mask = 0
                for bit in range(16):
                    begin = cluster * CLUSTER + bit * BLOCK
                    block = data[begin : begin + BLOCK] if begin // CLUSTER == cluster else b""
                    if block.strip(b"\0") or (block and name == "vmstate"):
                        mask |= 1 << bit
                        blocks += block.ljust(BLOCK, b"\0")
                struct.pack_into(">HBBI", extent, 40 + 8 * place, mask, 0, at + 1, cluster)
            struct.pack_into(">4sHH16s", extent, 0, b"VMAE", 0, len(blocks) // BLOCK, uuid)
            extent[24:40] = md5_without(bytes(extent), 24)
            file.write(extent + blocks)


if __name__ == "__main__":
    try:
        {"extract": extract, "create": create, "strict": strict}[sys.argv[1]](*sys.argv[2:])
    except Damage as damage:
        print(f"Damage: {damage}", file=sys.stderr)
        sys.exit(3)
