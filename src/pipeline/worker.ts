// SPDX-License-Identifier: MIT
// The entry of a worker thread. It imports only what tasks need, because starting it is on the way of the first cluster.

import { setPriority } from 'node:os';
import { parentPort, workerData } from 'node:worker_threads';
import { carry } from './carry.js';
import { compress, type Run } from './compress.js';
import { encodeError } from './error-message.js';
import { extract } from './extract.js';
import { hashSlot } from './hash-slot.js';
import { intake } from './intake.js';
import { load } from './load.js';
import {
  type Answer,
  DONE,
  HASH_SLOT,
  INTAKE,
  type SlotTask,
  type Task,
  unpackFrames,
  type WorkerSettings,
} from './messages.js';
import { SlotMemory } from './slot-memory.js';
import { verifyExtents } from './verify-extents.js';

const settings = workerData as WorkerSettings;
const { hash, level, implementation, niceness } = settings;
standBack(niceness);
const slots: SlotMemory[][] = settings.pools.map(() => []);

/** On Linux a priority is a thread's, not the process's. Where it may not be set, the work goes on at the usual one. */
function standBack(niceness: number): void {
  if (niceness === 0) return;
  try {
    setPriority(niceness);
  } catch {}
}

function slotOf(pool: number, index: number): SlotMemory {
  const known = slots[pool]!;
  known[index] ??= new SlotMemory(settings.pools[pool]!, index);
  return known[index];
}

function runSlotTask(task: SlotTask): number {
  const slot = slotOf(task[1]!, task[2]!);
  if (task[0] === HASH_SLOT) {
    hashSlot(slot, task[3]!, hash, implementation);
    return DONE;
  }
  if (task[0] === INTAKE) {
    const from = task[4]! < 0 ? undefined : { fd: task[4]!, offsetBytes: task[5]! };
    const into = task[6]! < 0 ? undefined : slotOf(task[6]!, task[7]!);
    return intake(slot, task[3]!, { from, into, hash, level, implementation });
  }
  const runs: Run[] = [];
  for (let at = 3; at < task.length; at += 4) {
    runs.push({ slot: slotOf(task[at]!, task[at + 1]!), offsetBytes: task[at + 2]!, lengthBytes: task[at + 3]! });
  }
  compress(runs, slot, level, hash, implementation);
  return DONE;
}

function run(task: Task): Answer {
  if (!('task' in task)) return runSlotTask(task);
  if (task.task === 'verify') return { report: verifyExtents(task.job, implementation) };
  const frames = unpackFrames(task.numbers, task.hashes);
  const { fd, object } = task;
  if (task.task === 'load') {
    const frame = frames[0]!;
    return { report: load({ fd, object, frame, chunks: frame.chunks, memory: task.memory }, hash, implementation) };
  }
  if (task.task === 'carry') {
    const frame = frames[0]!;
    const into = slotOf(task.pool, task.slot);
    return { report: carry({ fd, object, frame, chunks: frame.chunks }, into, hash, implementation) };
  }
  const { target } = task;
  const place = target.kind === 'file' ? target : { kind: target.kind, memory: slotOf(target.pool, target.slot) };
  return { report: extract({ fd, object, frames }, place, hash, implementation) };
}

const port = parentPort!;
function answerTo(task: Task): Answer {
  try {
    return run(task);
  } catch (error) {
    return { error: encodeError(error) };
  }
}

port.on('message', (tasks: readonly Task[]) => port.postMessage(tasks.map(answerTo)));
