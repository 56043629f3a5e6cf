// SPDX-License-Identifier: MIT
// Tells somebody how a job went: by a command, a mail, a webhook. None of them keeps the others from being tried.

import { isUnfinished, type JobReport } from '../../formats/vmar/job-report.js';
import type { CommandConfig, MailConfig, NotifyConfig } from './config.js';
import { commandWords, programProblem } from './hooks.js';
import { renderMail } from './mail.js';
import { type Environment, runProgram } from './program.js';
import { reportDocument } from './report-document.js';
import type { OnEvent } from './run-events.js';
import { postJson } from './webhook.js';

export interface NotifyOptions {
  readonly report: JobReport;
  readonly facts: Environment;
  readonly env: Environment;
  readonly hostName: string;
  readonly asText: (report: JobReport) => string;
  readonly onEvent: OnEvent;
}

/** Resolves to what did not work, a sentence each. Never rejects. */
export async function notify(config: NotifyConfig, options: NotifyOptions): Promise<readonly string[]> {
  const { report, onEvent } = options;
  if (config.when === 'never' || (config.when === 'failure' && report.outcome === 'ok')) return [];
  const { command, mail, webhook, timeoutMillis } = config;
  const ways = [
    ...(command === undefined ? [] : [['command', tellCommand(command, timeoutMillis, options)] as const]),
    ...(mail === undefined ? [] : [['mail', sendMail(mail, timeoutMillis, options)] as const]),
    ...(webhook === undefined ? [] : [['webhook', postJson(webhook, reportDocument(report), timeoutMillis)] as const]),
  ];
  const problems: string[] = [];
  for (const [way, told] of ways) {
    const error = await told;
    onEvent({ event: 'notified', way, ...(error === undefined ? {} : { error }) });
    if (error !== undefined) problems.push(`nobody was told by the ${way}: ${error}`);
  }
  return problems;
}

/** The document on its standard input, the facts in its environment. */
async function tellCommand(
  command: CommandConfig,
  timeoutMillis: number,
  { report, facts, env }: NotifyOptions,
): Promise<string | undefined> {
  const end = await runProgram({
    words: commandWords(command),
    env: { ...env, VMAR_HOOK: 'notify', ...facts },
    ...{ input: `${JSON.stringify(reportDocument(report))}\n`, timeoutMillis, killsGroup: true },
  });
  const problem = programProblem(end, timeoutMillis);
  return problem === undefined ? undefined : `it ${problem}`;
}

async function sendMail(
  { to, from, sendmail }: MailConfig,
  timeoutMillis: number,
  { report, env, hostName, asText }: NotifyOptions,
): Promise<string | undefined> {
  const body = asText(report);
  const mail = renderMail({ from, to, subject: subjectOf(report), body, dateMillis: report.finishedMillis, hostName });
  const end = await runProgram({
    words: [sendmail, '-i', '-f', from, '--', ...to],
    ...{ env, input: mail, timeoutMillis, killsGroup: true },
  });
  const problem = programProblem(end, timeoutMillis);
  return problem === undefined ? undefined : `${sendmail} ${problem}`;
}

/** "vmar: nightly on pve-1: 1 of 20 guests failed" */
function subjectOf(report: JobReport): string {
  const { job, host, outcome, guests, error } = report;
  const failed = guests.filter((guest) => guest.outcome !== 'ok').length;
  const of = guests.length === 0 ? '' : `${guests.length} ${guests.length === 1 ? 'guest' : 'guests'}`;
  const words = {
    ok: of === '' ? 'done' : `${of} done`,
    failed: failed > 0 ? `${failed} of ${of} failed` : `failed: ${error}`,
    skipped: 'not run',
    busy: 'busy',
    interrupted: 'interrupted',
  };
  const what = isUnfinished(report) ? 'killed before its end' : words[outcome];
  return `vmar: ${job} on ${host}: ${what}`.slice(0, 200);
}
