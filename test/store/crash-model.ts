// SPDX-License-Identifier: MIT
// What a directory looks like after a crash: the recorded operations applied to a model that keeps what is there apart
// from what is durable, and the model written out as real files.
//
// The model is stricter than Linux file systems are: a name survives only if its own directory was fsynced after it was
// made, and is gone only if the directory was fsynced after it was removed; content survives only if it was fsynced.

import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Operation } from './recording-fs.js';

/**
 * `all`: the process died, the machine did not. `durable`: the power went, and only what was synced is there. `names`:
 * the power went after the kernel had written all names, but no content that was not synced.
 */
export type Survival = 'all' | 'durable' | 'names';

type Inode = FileNode | DirectoryNode;

interface FileNode {
  readonly kind: 'file';
  content: Buffer;
  durable: Buffer;
}

interface DirectoryNode {
  readonly kind: 'directory';
  readonly names: Map<string, Inode>;
  durable: Map<string, Inode>;
}

function newDirectory(): DirectoryNode {
  return { kind: 'directory', names: new Map(), durable: new Map() };
}

export class CrashModel {
  readonly #root: DirectoryNode;
  readonly #files = new Map<number, FileNode>();

  private constructor(root: DirectoryNode) {
    this.#root = root;
  }

  static empty(): CrashModel {
    return new CrashModel(newDirectory());
  }

  /** Takes a directory as it is; all of it counts as durable. */
  static of(directory: string): CrashModel {
    return new CrashModel(readTree(directory));
  }

  apply(operation: Operation): void {
    switch (operation.kind) {
      case 'create': {
        const node: FileNode = { kind: 'file', content: Buffer.alloc(0), durable: Buffer.alloc(0) };
        this.#files.set(operation.file, node);
        this.#parent(operation.path).names.set(base(operation.path), node);
        return;
      }
      case 'write': {
        const node = this.#files.get(operation.file)!;
        node.content = Buffer.concat([node.content.subarray(0, operation.offsetBytes), operation.bytes]);
        return;
      }
      case 'fsync': {
        const node = this.#files.get(operation.file)!;
        node.durable = node.content;
        return;
      }
      case 'mkdir':
        this.#parent(operation.path).names.set(base(operation.path), newDirectory());
        return;
      case 'unlink':
      case 'rmdir':
        this.#parent(operation.path).names.delete(base(operation.path));
        return;
      case 'rename':
      case 'link': {
        const source = this.#parent(operation.from);
        const node = source.names.get(base(operation.from))!;
        if (operation.kind === 'rename') source.names.delete(base(operation.from));
        this.#parent(operation.to).names.set(base(operation.to), node);
        return;
      }
      case 'fsync-directory': {
        const node = this.#directory(operation.path);
        node.durable = new Map(node.names);
      }
    }
  }

  /** Writes what survives into `target`, which does not exist. */
  materialize(target: string, survival: Survival): void {
    writeTree(this.#root, target, survival);
  }

  #parent(path: string): DirectoryNode {
    const parent = dirname(path);
    return this.#directory(parent === '.' ? '' : parent);
  }

  #directory(path: string): DirectoryNode {
    let node: Inode | undefined = this.#root;
    for (const part of path.split('/').filter((text) => text !== '')) {
      node = node?.kind === 'directory' ? node.names.get(part) : undefined;
    }
    if (node?.kind !== 'directory') throw new Error(`the model has no directory ${path}`);
    return node;
  }
}

function base(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1);
}

function readTree(directory: string): DirectoryNode {
  const node = newDirectory();
  for (const entry of readdirSync(directory, { withFileTypes: true })) {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) node.names.set(entry.name, readTree(path));
    else {
      const content = readFileSync(path);
      node.names.set(entry.name, { kind: 'file', content, durable: content });
    }
  }
  node.durable = new Map(node.names);
  return node;
}

function writeTree(node: DirectoryNode, target: string, survival: Survival): void {
  mkdirSync(target, { mode: 0o700 });
  for (const [name, inode] of survival === 'durable' ? node.durable : node.names) {
    const path = join(target, name);
    if (inode.kind === 'directory') writeTree(inode, path, survival);
    else writeFileSync(path, survival === 'all' ? inode.content : inode.durable, { mode: 0o600 });
  }
}
