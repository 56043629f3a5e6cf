// SPDX-License-Identifier: MIT
// Tells sequential readers from random ones, and how far to read on ahead of them. Readers that keep many requests in
// flight send them a little out of order; several may read at once in different places.

/** Readers that are told apart. */
const MOST_STREAMS = 8;
/** A read that begins so many times its own length from where a stream ended is the stream's. */
const SLACK_READS = 16;
/** Reads in sequence before anything is read ahead. */
const LEAST_READS = 2;

interface Stream {
  /** Where its last read ended. */
  endBytes: number;
  reads: number;
  /** Read in sequence so far. */
  runBytes: number;
  /** Everything before it is read or on its way. */
  aheadBytes: number;
}

export interface AheadRange {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

export interface ReadNote {
  /** Whether its neighbours will likely be read too. */
  readonly isSequential: boolean;
  /** What should be read ahead now. */
  readonly ahead: AheadRange | undefined;
}

export class ReadStreams {
  readonly #mostAheadBytes: number;
  /** The least recently used first. */
  #streams: Stream[] = [];

  constructor(mostAheadBytes: number) {
    this.#mostAheadBytes = mostAheadBytes;
  }

  /** Takes note of a read. */
  note(offsetBytes: number, lengthBytes: number, deviceBytes: number): ReadNote {
    const stream = this.#advance(offsetBytes, lengthBytes);
    const isSequential = stream.reads >= LEAST_READS;
    return { isSequential, ahead: isSequential ? this.#ahead(stream, deviceBytes) : undefined };
  }

  #advance(offsetBytes: number, lengthBytes: number): Stream {
    const end = offsetBytes + lengthBytes;
    const stream = this.#streamAt(offsetBytes, end);
    stream.reads++;
    stream.runBytes += lengthBytes;
    stream.endBytes = Math.max(stream.endBytes, end);
    stream.aheadBytes = Math.max(stream.aheadBytes, stream.endBytes);
    return stream;
  }

  #ahead(stream: Stream, deviceBytes: number): AheadRange | undefined {
    // The longer it goes on, the farther: what is read ahead in vain is not much more than what was read.
    const window = Math.min(this.#mostAheadBytes, 2 * stream.runBytes);
    const until = Math.min(deviceBytes, stream.endBytes + window);
    // In large steps, so that most reads cost nothing here.
    if (until - stream.aheadBytes < Math.min(window / 2, deviceBytes - stream.aheadBytes)) return undefined;
    if (until <= stream.aheadBytes) return undefined;
    const range = { offsetBytes: stream.aheadBytes, lengthBytes: until - stream.aheadBytes };
    stream.aheadBytes = until;
    return range;
  }

  #streamAt(offsetBytes: number, end: number): Stream {
    const slack = SLACK_READS * (end - offsetBytes);
    const index = this.#streams.findIndex(({ endBytes }) => Math.abs(offsetBytes - endBytes) <= slack);
    const fresh = { endBytes: offsetBytes, reads: 0, runBytes: 0, aheadBytes: end };
    const stream = index < 0 ? fresh : this.#streams.splice(index, 1)[0]!;
    this.#streams.push(stream);
    if (this.#streams.length > MOST_STREAMS) this.#streams.shift();
    return stream;
  }
}
