// SPDX-License-Identifier: MIT
// The Debian packages that the guest is made of: fetched by apt, never installed, kept in a cache outside of the project.

import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { tool } from './tool.js';

/** With all that they depend on: what is in a disk that people have. */
const IN_THE_GUEST = ['busybox-static', 'e2fsprogs', 'fio', 'qemu-guest-agent'];
const KERNEL = 'linux-image-cloud-amd64';
/** Another set of packages is another name here. */
const SET = 'guest-packages-1';

export interface GuestPackages {
  readonly kernel: string;
  readonly userland: readonly string[];
}

/** Fetches what the cache lacks. @throws Error that says why it cannot be had */
export function guestPackages(): GuestPackages {
  if (process.arch !== 'x64') throw new Error(`the guest is made for x86-64, and this machine is ${process.arch}`);
  const cache = cacheDirectory();
  const directory = join(cache, SET);
  if (!existsSync(directory)) fetchInto(cache, directory);
  const all = readdirSync(directory).map((name) => join(directory, name));
  const kernel = all.find((path) => path.includes('/linux-image-'));
  if (kernel === undefined) throw new Error(`there is no kernel in ${directory}: remove it, and it is fetched again`);
  return { kernel, userland: all.filter((path) => path.endsWith('.deb') && path !== kernel) };
}

function cacheDirectory(): string {
  const caches = [process.env.XDG_CACHE_HOME, join(homedir(), '.cache'), '/var/tmp'];
  for (const cache of caches) {
    if (cache === undefined || cache === '') continue;
    const directory = join(cache, 'vmar-test');
    try {
      mkdirSync(directory, { recursive: true });
      return directory;
    } catch {
      // The next one.
    }
  }
  throw new Error(`no directory for a cache can be made under ${caches.join(', ')}`);
}

/** All of it appears at once: other tests may run beside this one. */
function fetchInto(cache: string, directory: string): void {
  const work = mkdtempSync(join(cache, 'fetching-'));
  try {
    const apt = new Apt(work);
    apt.fetch();
    if (!existsSync(directory)) renameSync(apt.archives, directory);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** apt with a system of its own, on which nothing is installed, but with this machine's sources of packages. */
class Apt {
  readonly #work: string;
  readonly archives: string;
  #options: readonly string[];

  constructor(work: string) {
    this.#work = work;
    this.archives = join(work, 'archives');
    mkdirSync(join(this.archives, 'partial'), { recursive: true });
    writeFileSync(join(work, 'status'), '');
    this.#options = Object.entries({
      'Dir::State::status': join(work, 'status'),
      'Dir::Cache::archives': this.archives,
      'Dir::Cache::pkgcache': '',
      'Dir::Cache::srcpkgcache': '',
      'Debug::NoLocking': '1',
      'APT::Sandbox::User': '',
      'APT::Install-Recommends': '0',
    }).flatMap(([name, value]) => ['-o', `${name}=${value}`]);
  }

  fetch(): void {
    try {
      this.#fetchAll();
    } catch {
      // The machine's lists are missing or too old.
      const lists = join(this.#work, 'lists');
      mkdirSync(join(lists, 'partial'), { recursive: true });
      this.#options = [...this.#options, '-o', `Dir::State::lists=${lists}`];
      tool('apt-get', [...this.#options, '-q', 'update']);
      this.#fetchAll();
    }
    rmSync(join(this.archives, 'partial'), { recursive: true, force: true });
    rmSync(join(this.archives, 'lock'), { force: true });
  }

  #fetchAll(): void {
    const { text } = tool('apt-cache', [...this.#options, '--no-all-versions', 'show', KERNEL]);
    const kernel = /^Depends: .*?(linux-image-\S+-cloud-amd64)/m.exec(text)?.[1];
    if (kernel === undefined) throw new Error(`apt knows no package ${KERNEL}: Debian's sources are needed`);
    tool('apt-get', [...this.#options, '-q', '-y', '--download-only', 'install', ...IN_THE_GUEST]);
    tool('apt-get', [...this.#options, '-q', 'download', kernel], { cwd: this.archives });
  }
}
