// SPDX-License-Identifier: MIT

import { BlockNode } from '#vmar/src/block/block-node.js';
import { MemoryDevice } from '#vmar/src/block/memory-device.js';
import { deviceContract } from './device-contract.js';

deviceContract('BlockNode', async (lengthBytes) => new BlockNode(new MemoryDevice(lengthBytes)));
