// SPDX-License-Identifier: MIT
// The report as people see it, in a real browser. VMAR_REPORT_SHOTS=DIR keeps the stores, the pages and pictures of them.

import { spawn, spawnSync } from 'node:child_process';
import { copyFileSync, lstatSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Bench } from '../cli/bench.js';
import { CLUSTER, makeImage, noise, patch } from '../cli/images.js';
import { memoryDirectory } from '../crash/memory-directory.js';
import { Browser, haveBrowser, VIEWS } from './browser.js';
import { POOR_CONTRASTS } from './contrast.js';
import { makeDemo } from './demo-store.js';

const bench = new Bench();
const shots = process.env.VMAR_REPORT_SHOTS;
const scratch = shots ?? memoryDirectory();
const NIGHTS = 30;
const NAMES = ['well', 'troubled', 'empty', 'long'] as const;
const pages = Object.fromEntries(NAMES.map((name) => [name, bench.path(`${name}.html`)])) as Record<
  (typeof NAMES)[number],
  string
>;

beforeAll(async () => {
  for (const name of ['well', 'troubled'] as const) {
    const directory = join(scratch, name);
    mkdirSync(directory);
    const isTroubled = name === 'troubled';
    const nights = isTroubled ? NIGHTS : 3;
    const demo = await makeDemo({ directory, nights, nowMillis: Date.now(), isTroubled });
    const env = { VMAR_DATASTORE: demo.root, VMAR_CACHE_DIR: demo.cacheDir };
    const words = ['report', '--html', pages[name], '--config-file', demo.configFile];
    expect(await bench.json(words, { env })).toEqual({ file: pages[name], ok: !isTroubled });
    if (shots !== undefined) copyFileSync(pages[name], join(shots, `${name}.html`));
  }
  await makeLongNames();
  await bench.json(['init', bench.path('empty')]);
  await bench.json(['report', '--html', pages.empty], { env: { VMAR_DATASTORE: bench.path('empty') } });
}, 120_000);

/** Names as long as they may be, without a place to break them. */
async function makeLongNames(): Promise<void> {
  const long = 'x'.repeat(63);
  const guest = `${long}/${long}/vm/${long}`;
  const [store, config] = [bench.path('long'), bench.path('long.yaml')];
  const env = { VMAR_DATASTORE: undefined };
  await bench.json(['init', store]);
  makeImage(bench.path('a.raw'), 20 * CLUSTER, [{ at: 0, bytes: noise(4) }]);
  const guests = `guests: {"${guest}": {disks: {${long}: ${bench.path('a.raw')}}}}`;
  const job = `{guests: all, datastore: main, schedule: "02:00"}`;
  writeFileSync(config, `datastores: {main: ${store}}\n${guests}\njobs: {${long}: ${job}}\n`);
  for (const name of ['a.raw', 'a.raw', 'gone']) {
    if (name === 'gone') rmSync(bench.path('a.raw'));
    else patch(bench.path('a.raw'), 0, noise());
    await bench.run(['job', 'run', long, '--config-file', config], { env });
  }
  await bench.json(['report', '--html', pages.long, '--config-file', config], { env });
}

describe('the page', () => {
  it('asks for nothing, runs nothing, and takes no name for markup', () => {
    const text = readFileSync(pages.troubled, 'utf8');
    expect(text).toContain('content="default-src &#39;none&#39;; style-src');
    expect(text).not.toMatch(/<(?:script|img|iframe|link|object|embed|form)\b/i);
    expect(text).not.toMatch(/\son\w+="|javascript:|url\(|@import|<use\b/i);
    // What is said in an error of the demonstration stands there as it was said.
    expect(text).toContain('&lt;script&gt;alert(1)&lt;/script&gt;&lt;img src=&quot;http://evil.example');
    expect(text).toContain('db &lt;primary&gt; &amp; &quot;co&quot;');
    expect(text.length).toBeLessThan(400_000);
  });

  it('replaces the file in one step, and refuses what makes no sense', async () => {
    const env = { VMAR_DATASTORE: bench.path('empty') };
    writeFileSync(bench.path('old.html'), 'old');
    expect((await bench.run(['report', '--html', 'old.html', '--days', '7'], { env })).text).toBe('wrote old.html\n');
    expect(readFileSync(bench.path('old.html'), 'utf8')).toContain('There are no backups');
    // A pipe or a device stays what it is: `--html /dev/null` once made a file of that.
    spawnSync('mkfifo', [bench.path('pipe')]);
    const reader = spawn('cat', [bench.path('pipe')], { stdio: ['ignore', 'pipe', 'ignore'] });
    const seen = text(reader.stdout);
    expect((await bench.run(['report', '--html', 'pipe'], { env })).status).toBe(0);
    expect(await seen).toContain('There are no backups');
    expect(lstatSync(bench.path('pipe')).isFIFO()).toBe(true);
    expect(await bench.error(['report'], { env })).toMatchObject({ exit: 2 });
    expect(await bench.error(['report', '--html', 'a.html', '--days', '0'], { env })).toMatchObject({ exit: 2 });
    expect(await bench.error(['report', '--html', 'no/a.html'], { env })).toMatchObject({ exit: 1, code: 'missing' });
  });
});

describe.runIf(haveBrowser('the look of vmar report'))('the report in a browser', () => {
  let browser: Browser;
  beforeAll(async () => {
    browser = await Browser.start();
  });
  afterAll(async () => await browser.close());

  for (const name of NAMES) {
    for (const view of VIEWS) {
      it(`is whole, quiet and legible: ${name}, ${view.name}`, async () => {
        const { page, requests, messages } = await browser.open(pages[name], view);
        if (shots !== undefined)
          await page.screenshot({ path: join(shots, `${name}-${view.name}.png`), fullPage: true });
        await page.evaluate('for (const fold of document.querySelectorAll("details")) fold.open = true');
        const { scroll, width } = (await page.evaluate(
          '({ scroll: document.documentElement.scrollWidth, width: document.documentElement.clientWidth })',
        )) as { scroll: number; width: number };
        expect(scroll).toBeLessThanOrEqual(width);
        const { looked, poor } = (await page.evaluate(POOR_CONTRASTS)) as { looked: number; poor: string[] };
        expect(poor).toEqual([]);
        expect(looked).toBeGreaterThan(name === 'empty' ? 10 : 80);
        expect(requests).toEqual([]);
        expect(messages).toEqual([]);
        await page.close();
      });
    }
  }

  it('would see a poor contrast, a request and a page that is too wide', async () => {
    const file = bench.path('bad.html');
    const wide = '<div style="width: 2000px; color: #999; background: #fff">grey</div>';
    writeFileSync(file, `<body>${wide}<img src="http://127.0.0.1:1/x.png"></body>`);
    const { page, requests, messages } = await browser.open(file, VIEWS[0]!);
    expect(requests).toEqual(['http://127.0.0.1:1/x.png']);
    expect(messages).toHaveLength(1);
    expect(await page.evaluate(POOR_CONTRASTS)).toMatchObject({ poor: [expect.stringContaining('2.85: grey')] });
    expect(await page.evaluate('document.documentElement.scrollWidth')).toBe(2008);
    await page.close();
  });

  it('tells at once what is not well, and whose', async () => {
    const { page } = await browser.open(pages.troubled, VIEWS[0]!);
    expect(await texts(page, '.verdict h2')).toEqual(['2 of 5 guests need attention']);
    expect(await texts(page, '.verdict li')).toEqual([
      expect.stringMatching(/^vm\/102 \(mail\): overdue: nightly of \S+ 0[02]:00:00 is missing$/),
      'vm/103 (windows-desktop): 1 older backup damaged',
      expect.stringMatching(/^job nightly: its last run, of \S+ 0[02]:00:00, failed$/),
    ]);
    // Without scrolling, on a telephone too.
    await page.setViewportSize({ width: 360, height: 640 });
    const bottom = await page.evaluate('document.querySelector(".verdict").getBoundingClientRect().bottom');
    expect(bottom).toBeLessThan(400);
    expect(await page.evaluate('document.querySelector(".verdict a").hash')).toBe('#guest-vm/102');
    expect(await page.evaluate('document.getElementById("guest-vm/102") !== null')).toBe(true);
    expect(await texts(page, '#guests ~ table .state')).toEqual(['good', 'good', 'overdue', 'damaged', 'good']);
    await page.close();
    const well = await browser.open(pages.well, VIEWS[0]!);
    expect(await texts(well.page, '.verdict h2')).toEqual(['All is well']);
    await well.page.close();
    const long = await browser.open(pages.long, VIEWS[0]!);
    expect(await texts(long.page, '.verdict h2')).toEqual(['A job failed']);
    await long.page.close();
  });

  it('shows each night of each guest, by more than a colour', async () => {
    const { page } = await browser.open(pages.troubled, VIEWS[0]!);
    const rows = (await page.evaluate(
      `[...document.querySelectorAll('.calendar tbody tr')].map((row) => [...row.querySelectorAll('td')].map((cell) =>
        cell.className + ' ' + cell.firstChild.textContent))`,
    )) as string[][];
    expect(rows.map((row) => row.length)).toEqual([NIGHTS, NIGHTS, NIGHTS, NIGHTS, NIGHTS]);
    const expected = (changes: Readonly<Record<number, string>>): string[] =>
      Array.from({ length: NIGHTS }, (_, night) => changes[NIGHTS - 1 - night] ?? 'ok ✓');
    const off = { 16: 'missed ?' };
    expect(rows).toEqual([
      expected(off),
      expected({ ...off, 9: 'failed ✕' }),
      expected({ ...off, 0: 'failed ✕', 1: 'failed ✕' }),
      expected({ ...off, 5: 'damaged !' }),
      expected(off),
    ]);
    const said = await texts(page, '.calendar td.failed .hidden');
    expect(said[0]).toMatch(/^\d{4}-\d\d-\d\d: failed \(the disk cannot be read: .*<script>/);
    await page.close();
  });

  it('says in words what pictures show', async () => {
    const { page } = await browser.open(pages.troubled, VIEWS[0]!);
    const without = async (selector: string, what: string): Promise<unknown> =>
      await page.evaluate(`[...document.querySelectorAll('${selector}')].filter((one) => !(${what})).length`);
    expect(await without('table', 'one.caption !== null && one.caption.textContent.trim() !== ""')).toBe(0);
    expect(await without('svg', 'one.ariaHidden === "true" || (one.role === "img" && one.ariaLabel !== "")')).toBe(0);
    expect(await without('figure', 'one.querySelector("figcaption") !== null')).toBe(0);
    expect(await without('th', 'one.scope === "row" || one.scope === "col"')).toBe(0);
    expect(await without('section', 'document.getElementById(one.getAttribute("aria-labelledby")) !== null')).toBe(0);
    expect(await texts(page, 'h2:not(#verdict)')).toEqual([
      ...['Guests', 'Nights', 'Growth', 'What guests take', 'What changed on the disks', 'Job history'],
    ]);
    const labels = (await page.evaluate(
      '[...document.querySelectorAll("svg[role=img]")].map((one) => one.ariaLabel)',
    )) as string[];
    expect(labels.filter((label) => label.startsWith('What changed on '))).toHaveLength(5);
    expect(labels.find((label) => label.startsWith('Stored: from '))).toMatch(/ on \d{4}-\d\d-\d\d to [\d.]+ MiB on /);
    // The patch day of guest 103 is the night that most changed on its disk.
    expect(labels.find((label) => label.startsWith('What changed on sata0'))).toMatch(
      /most on \S+: 1[12](?:\.\d)? MiB/,
    );
    expect(await texts(page, '.guest:last-of-type figcaption')).toEqual(['scsi064 MiB; nothing changed in 28 nights']);
    // Rows of the pictures: one for each good backup of a disk that changes, each with what it shows in words.
    const titles = await texts(page, '.disk svg g title');
    expect(titles).toHaveLength(29 + 29 + 28 + 27 + 28);
    await page.close();
  });
});

async function texts(page: Page, selector: string): Promise<string[]> {
  return (await page.evaluate(
    `[...document.querySelectorAll(${JSON.stringify(selector)})].map((one) => one.textContent.trim().replace(/\\s+/g, ' '))`,
  )) as string[];
}
