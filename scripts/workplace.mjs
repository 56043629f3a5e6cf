// SPDX-License-Identifier: MIT
// A temporary directory with enough room, and the commands that run in it. Whatever ends the program, also Ctrl-C in the
// middle of a command, the directory is gone afterwards.
import { spawn } from 'node:child_process';
import { accessSync, constants, mkdtempSync, rmSync, statfsSync } from 'node:fs';
import { join } from 'node:path';

export class CommandFailed extends Error {
  constructor(command, status, output) {
    super(`${command} failed (${status})${output === '' ? '' : `:\n${output}`}`);
    this.status = status;
  }
}

/** The first of the directories that is writable and has `roomBytes` free; throws, naming `variable`, if there is none. */
export function directoryWithRoom(directories, roomBytes, variable) {
  const seen = [];
  for (const directory of directories) {
    try {
      accessSync(directory, constants.W_OK);
      const { bavail, bsize } = statfsSync(directory);
      if (bavail * bsize >= roomBytes) return directory;
      seen.push(`${directory} (${Math.floor((bavail * bsize) / 2 ** 20)} MiB free)`);
    } catch (error) {
      seen.push(`${directory} (${error.code ?? error.message})`);
    }
  }
  const needed = `${Math.ceil(roomBytes / 2 ** 20)} MiB of free space needed`;
  throw new Error(`${needed}, found none in ${seen.join(', ')}; name a directory with ${variable}=DIR`);
}

export class Workplace {
  #children = new Set();
  #stopping = false;

  /**
   * Makes `parent`/`prefix`XXXXXX, which goes when the program ends, however it ends. Signals end it, with status 130,
   * after the commands under way.
   */
  constructor(parent, prefix) {
    this.path = mkdtempSync(join(parent, prefix));
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => this.#stop());
    process.on('exit', () => {
      this.#kill('SIGKILL');
      rmSync(this.path, { recursive: true, force: true, maxRetries: 5 });
    });
  }

  join(...parts) {
    return join(this.path, ...parts);
  }

  /**
   * Runs a command, by default in the directory, waits, and gives what it printed. Rejects with CommandFailed if it
   * fails, unless its status is in `allowed`. `stderr: 'inherit'` shows the command's messages as they come.
   */
  async run(command, args, { cwd = this.path, env = {}, stderr = 'pipe', allowed = [0] } = {}) {
    const child = this.#spawn(command, args, cwd, env, stderr);
    const printed = { stdout: '', stderr: '' };
    for (const name of ['stdout', 'stderr']) {
      child[name]?.setEncoding('utf8').on('data', (text) => {
        printed[name] += text;
      });
    }
    const status = await new Promise((resolve, reject) => {
      child.once('error', reject);
      child.once('close', (code, signal) => resolve(code ?? signal));
    });
    if (this.#stopping) await new Promise(() => {}); // the signal's handler ends the program
    if (!allowed.includes(status)) {
      const said = `${printed.stderr}\n${printed.stdout}`.trim();
      throw new CommandFailed([command, ...args].join(' '), status, said);
    }
    return { ...printed, status };
  }

  /**
   * Starts a command that goes on by itself, and gives `{ child, ended, stop }`: `ended` resolves to its status, `stop`
   * sends a signal and waits. Its standard error is shown.
   */
  start(command, args, { cwd = this.path, env = {} } = {}) {
    const child = this.#spawn(command, args, cwd, env, 'inherit');
    const ended = new Promise((resolve) => child.once('close', (code, signal) => resolve(code ?? signal)));
    const stop = async (signal = 'SIGTERM') => {
      child.kill(signal);
      return await ended;
    };
    return { child, ended, stop };
  }

  #spawn(command, args, cwd, env, stderr) {
    const child = spawn(command, args, {
      cwd,
      // mke2fs and its like are in sbin, which users who are not root do not have.
      env: { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin`, ...env },
      stdio: ['ignore', 'pipe', stderr],
      detached: true, // a process group, so that a signal reaches what the command starts in turn
    });
    this.#children.add(child);
    child.once('close', () => this.#children.delete(child));
    return child;
  }

  async #stop() {
    if (this.#stopping) return;
    this.#stopping = true;
    const ends = [...this.#children].map((child) => new Promise((resolve) => child.once('close', resolve)));
    this.#kill('SIGTERM');
    const patience = setTimeout(() => this.#kill('SIGKILL'), 5000);
    await Promise.all(ends);
    clearTimeout(patience);
    process.exit(130);
  }

  #kill(signal) {
    for (const { pid } of this.#children) {
      try {
        if (pid !== undefined) process.kill(-pid, signal);
      } catch {} // it has ended by itself
    }
  }
}
