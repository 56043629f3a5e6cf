// SPDX-License-Identifier: MIT
// A state file as the journal needs it. The real one is in state-place.ts; tests have one that forgets on a power cut
// what was not synced.

/** An open, locked file. */
export interface StateFile {
  sizeBytes(): Promise<number>;
  /** Resolves with how much there was, less than asked for only at the end. */
  read(offsetBytes: number, into: Uint8Array): Promise<number>;
  /** Once it resolves, whoever opens the file sees it, after a kill of this process too. Rejected: any part may be there. */
  write(offsetBytes: number, from: Uint8Array): Promise<void>;
  truncate(lengthBytes: number): Promise<void>;
  /** Resolves when content and length are durable. */
  sync(): Promise<void>;
  close(): Promise<void>;
}

/** The name of a state file. */
export interface StatePlace {
  readonly path: string;
  /** The file that has the name, locked; undefined if there is none. @throws BusyError when another process has it. */
  open(): Promise<StateFile | undefined>;
  /** An empty file that has not got the name yet, locked. @throws BusyError when another process is making one. */
  create(): Promise<StateFile>;
  /** Gives the name to what `create` made, in place of the file that has it. Durable after `syncName`. */
  publish(): Promise<void>;
  syncName(): Promise<void>;
  /** Removes what `create` made and `publish` did not name. */
  discard(): Promise<void>;
  /** Removes the file that has the name. */
  remove(): Promise<void>;
}
