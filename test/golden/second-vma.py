#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""A second reader and writer of .vma, made from formats/vma/SPEC.md alone.

    second-vma.py extract FILE DIR                 configs and disks into DIR; damage ends it with status 3
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
        {"extract": extract, "create": create}[sys.argv[1]](*sys.argv[2:])
    except Damage as damage:
        print(f"Damage: {damage}", file=sys.stderr)
        sys.exit(3)
