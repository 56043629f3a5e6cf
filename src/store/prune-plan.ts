// SPDX-License-Identifier: MIT
// Which of a guest's backups stay, and why: a pure function, with the semantics of Proxmox.
//
// The rules are applied one after the other, in the order of KEEP_RULES, each to the backups from the newest to the
// oldest. A rule with number N keeps the newest backup of each of N periods; periods without backups do not count, nor
// do those that have a backup which an earlier rule keeps. The other backups of the periods that a rule counts go; no later
// rule keeps them. What no rule has kept at the end goes.
// Protected backups, and those whose manifest or sidecar is damaged, stay and count for no rule.

import type { BackupRef } from './backup-id.js';
import { KEEP_RULES, type KeepRule, type PeriodOf } from './prune-periods.js';

/** How many of each rule; one that is not named or 0 is none. 'all': everything stays. */
export type Keep = 'all' | { readonly [rule in KeepRule]?: number };

export interface PruneCandidate {
  readonly ref: BackupRef;
  readonly state: 'sound' | 'protected' | 'damaged';
}

export type PruneDecision =
  /** The `index`th of `of` that the rule keeps, for the period. */
  | ({ readonly keep: true; readonly why: 'rule'; readonly rule: KeepRule; readonly period: string } & Counted)
  | { readonly keep: true; readonly why: 'all' | 'protected' | 'damaged' | 'newest-past' }
  /** The rule keeps a newer one of the period. */
  | { readonly keep: false; readonly why: 'not-newest'; readonly rule: KeepRule; readonly period: string }
  | { readonly keep: false; readonly why: 'no-rule' };

interface Counted {
  /** From 1. */
  readonly index: number;
  readonly of: number;
}

export interface PlannedBackup {
  readonly ref: BackupRef;
  readonly decision: PruneDecision;
}

export interface PlanOptions {
  readonly nowSeconds: number;
  readonly periodOf: PeriodOf;
}

/** Clocks of hosts that share a datastore may differ by so much. */
export const CLOCK_SLACK_SECONDS = 300;

/**
 * Decides about every one of a guest's backups; the result is ordered by time. The caller sees to it that `keep` keeps
 * something.
 */
export function planPrune(candidates: readonly PruneCandidate[], keep: Keep, options: PlanOptions): PlannedBackup[] {
  const newestFirst = [...candidates].sort((a, b) => b.ref.timeSeconds - a.ref.timeSeconds);
  const decisions = new Map<PruneCandidate, PruneDecision>();
  const sound = newestFirst.filter((candidate) => candidate.state === 'sound');
  if (keep !== 'all') {
    for (const rule of KEEP_RULES) applyRule(decisions, sound, rule, keep[rule] ?? 0, options.periodOf);
    keepNewestOfPast(decisions, sound, options.nowSeconds);
  }
  return newestFirst
    .map((candidate) => ({ ref: candidate.ref, decision: decide(candidate, decisions.get(candidate), keep) }))
    .reverse();
}

function decide({ state }: PruneCandidate, decision: PruneDecision | undefined, keep: Keep): PruneDecision {
  if (state !== 'sound') return { keep: true, why: state };
  if (keep === 'all') return { keep: true, why: 'all' };
  return decision ?? { keep: false, why: 'no-rule' };
}

function applyRule(
  decisions: Map<PruneCandidate, PruneDecision>,
  newestFirst: readonly PruneCandidate[],
  rule: KeepRule,
  most: number,
  periodOf: PeriodOf,
): void {
  if (most === 0) return;
  const covered = new Set<string>();
  for (const [{ ref }, decision] of decisions) if (decision.keep) covered.add(periodOf(rule, ref.timeSeconds));
  const kept = new Set<string>();
  for (const candidate of newestFirst) {
    if (decisions.has(candidate)) continue;
    const period = periodOf(rule, candidate.ref.timeSeconds);
    if (covered.has(period)) continue;
    if (kept.has(period)) {
      decisions.set(candidate, { keep: false, why: 'not-newest', rule, period });
      continue;
    }
    if (kept.size === most) return;
    kept.add(period);
    decisions.set(candidate, { keep: true, why: 'rule', rule, period, index: kept.size, of: most });
  }
}

/**
 * Where the clock once was ahead, backups of the future are the newest for ever, and fill the places of those that come
 * after them. Whatever the rules say, the newest of the past stays.
 */
function keepNewestOfPast(
  decisions: Map<PruneCandidate, PruneDecision>,
  newestFirst: readonly PruneCandidate[],
  nowSeconds: number,
): void {
  const newest = newestFirst.find(({ ref }) => ref.timeSeconds <= nowSeconds + CLOCK_SLACK_SECONDS);
  if (newest === undefined || newest === newestFirst[0] || decisions.get(newest)?.keep === true) return;
  decisions.set(newest, { keep: true, why: 'newest-past' });
}
