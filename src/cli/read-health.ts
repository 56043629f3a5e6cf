// SPDX-License-Identifier: MIT
// How all guests of a datastore stand, those too that a configuration names and that have no backup yet.

import type { NightlyConfig } from '../nightly/config.js';
import { Expectations } from '../nightly/expectations.js';
import { type GuestHealth, judgeGuest } from '../nightly/guest-health.js';
import { BackupHealth } from '../store/backup-health.js';
import { compareGuests, formatGuest, type GuestRef, resolveGuest } from '../store/backup-id.js';
import type { Datastore } from '../store/datastore.js';
import { readStatus } from '../store/guest-status.js';
import { findGuests } from './find-guests.js';

export interface HealthWish {
  /** Names of guests; none: all. */
  readonly names: readonly string[];
  readonly config: NightlyConfig | undefined;
  readonly mostAgeSeconds?: number;
  readonly nowMillis: number;
}

export interface StoreHealth {
  readonly guests: readonly GuestHealth[];
  readonly verified: BackupHealth;
}

/** @throws NotFoundError if there is no such guest, UsageError if several namespaces have one. */
export async function readHealth(store: Datastore, wish: HealthWish): Promise<StoreHealth> {
  const { config, nowMillis, mostAgeSeconds } = wish;
  const expectations = config === undefined ? Expectations.NONE : Expectations.of(config, store.root);
  const verified = await BackupHealth.read(store.root, store.log);
  const guests = chosen(await findGuests(store.root, []), expectations.guests, wish.names);
  const status = await readStatus(store.root, guests, Math.floor(nowMillis / 1000), verified);
  const options = { nowMillis, expectations, verified, ...(mostAgeSeconds === undefined ? {} : { mostAgeSeconds }) };
  return { guests: status.map((one) => judgeGuest(one, options)), verified };
}

function chosen(found: readonly GuestRef[], expected: readonly GuestRef[], names: readonly string[]): GuestRef[] {
  const all = new Map([...found, ...expected].map((guest) => [formatGuest(guest), guest]));
  const guests =
    names.length === 0 ? all.values() : new Set(names.map((name) => resolveGuest(name, [...all.values()])));
  return [...guests].sort(compareGuests);
}
