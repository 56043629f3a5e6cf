// SPDX-License-Identifier: MIT
// The report in a real browser, which nobody else's requests or profiles reach.

import { existsSync, mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type BrowserContext, chromium, type Page } from 'playwright-core';

const PROGRAM = '/usr/bin/chromium';

/** Says loudly what is not tested where there is no browser. */
export function haveBrowser(untested: string): boolean {
  const found = existsSync(PROGRAM);
  if (!found) console.warn(`\n!!! ${PROGRAM} is missing: NOT TESTED: ${untested}\n`);
  return found;
}

export interface View {
  readonly name: string;
  readonly scheme: 'light' | 'dark';
  readonly width: number;
}

export const VIEWS: readonly View[] = [
  { name: 'light', scheme: 'light', width: 1200 },
  { name: 'dark', scheme: 'dark', width: 1200 },
  { name: 'phone-light', scheme: 'light', width: 360 },
  { name: 'phone-dark', scheme: 'dark', width: 360 },
];

/** What a page did while it was open. */
export interface Opened {
  readonly page: Page;
  /** Addresses asked for, but its own. */
  readonly requests: readonly string[];
  /** Whatever it had to say. */
  readonly messages: readonly string[];
}

export class Browser {
  readonly #context: BrowserContext;

  private constructor(context: BrowserContext) {
    this.#context = context;
  }

  static async start(): Promise<Browser> {
    const profile = mkdtempSync(join(tmpdir(), 'vmar-chromium-'));
    const context = await chromium.launchPersistentContext(profile, {
      executablePath: PROGRAM,
      headless: true,
      args: [
        ...['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run'],
        ...['--disable-background-networking', '--disable-component-update', '--disable-sync'],
      ],
    });
    return new Browser(context);
  }

  async open(file: string, view: View): Promise<Opened> {
    const page = await this.#context.newPage();
    await page.setViewportSize({ width: view.width, height: 900 });
    await page.emulateMedia({ colorScheme: view.scheme });
    const requests: string[] = [];
    const messages: string[] = [];
    const own = `file://${file}`;
    page.on('request', (request) => void (request.url() === own || requests.push(request.url())));
    page.on('console', (message) => void messages.push(message.text()));
    page.on('pageerror', (error) => void messages.push(String(error)));
    page.on('dialog', (dialog) => void messages.push(dialog.message()));
    await page.goto(own, { waitUntil: 'load' });
    return { page, requests, messages };
  }

  async close(): Promise<void> {
    await this.#context.close();
  }
}
