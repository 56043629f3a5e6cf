// SPDX-License-Identifier: MIT
// The report as people see it. VMAR_REPORT_SHOTS=DIR keeps the pages and pictures of them.

import { copyFileSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Bench } from '../cli/bench.js';
import { Browser, haveBrowser, VIEWS } from './browser.js';
import { makeDemo } from './demo-store.js';

const bench = new Bench();
const shots = process.env.VMAR_REPORT_SHOTS;
const here = haveBrowser('the look of vmar report');

beforeAll(async () => {
  for (const name of ['well', 'troubled']) {
    const directory = shots === undefined ? bench.path(name) : join(shots, name);
    mkdirSync(directory);
    const isTroubled = name === 'troubled';
    const demo = await makeDemo({ directory, nights: isTroubled ? 30 : 4, nowMillis: Date.now(), isTroubled });
    const env = { VMAR_DATASTORE: demo.root, VMAR_CACHE_DIR: demo.cacheDir };
    await bench.json(['report', '--html', `${name}.html`, '--config-file', demo.configFile], { env });
    if (shots !== undefined) copyFileSync(bench.path(`${name}.html`), join(shots, `${name}.html`));
  }
});

describe.runIf(here)('the report in a browser', () => {
  let browser: Browser;
  beforeAll(async () => {
    browser = await Browser.start();
  });
  afterAll(async () => await browser.close());

  for (const name of ['well', 'troubled']) {
    for (const view of VIEWS) {
      it(`is whole and quiet: ${name}, ${view.name}`, async () => {
        const { page, requests, messages } = await browser.open(bench.path(`${name}.html`), view);
        expect(requests).toEqual([]);
        expect(messages).toEqual([]);
        const { scroll, width } = (await page.evaluate(
          '({ scroll: document.documentElement.scrollWidth, width: document.documentElement.clientWidth })',
        )) as { scroll: number; width: number };
        expect(scroll).toBeLessThanOrEqual(width);
        if (shots !== undefined)
          await page.screenshot({ path: join(shots, `${name}-${view.name}.png`), fullPage: true });
        await page.close();
      });
    }
  }
});
