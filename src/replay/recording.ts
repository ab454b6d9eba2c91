/**
 * The packets of a capture file that can come in on a port, once or several times, and when each is due. Blocks on reads. Thread
 * of the replay.
 */
import { statSync } from 'node:fs';
import { TwinpathError } from '../errors.ts';
import { ETHERNET_BYTES } from '../net/ethernet.ts';
import { calling } from '../pcapng/byte-source.ts';
import type { CapturedPacket } from '../pcapng/captured-packet.ts';
import { Direction, ETHERNET } from '../pcapng/format.ts';
import { CaptureReader } from '../pcapng/reader.ts';
import type { ReplaySettings } from '../replay-settings.ts';
import type { Played } from './messages.ts';

/** A time of the recording, and when that was by the replay's clock. */
interface Moment {
  readonly nanos: bigint;
  readonly at: number;
}

export class Recording {
  readonly #settings: ReplaySettings;
  readonly #clock: () => number;
  #reader: CaptureReader;
  #round = 1;
  /** Whether a packet of this round has come in. */
  #fitted = false;
  /** The first packet that has a time: of all rounds, and of this one. */
  #origin: Moment | undefined;
  #first: Moment | undefined;
  /** The recording's clock: time of the latest packet. */
  #latest = 0n;
  readonly #counts = { played: 0, playedBytes: 0, cut: 0, outbound: 0, tooShort: 0, tooLong: 0 };
  #packet: CapturedPacket | undefined;
  #due = 0;

  /**
   * Opens the file and reads its header.
   *
   * @param clock nanoseconds that only grow
   * @throws ERR_CAPTURE_FILE
   */
  constructor(settings: ReplaySettings, clock: () => number) {
    this.#settings = settings;
    this.#clock = clock;
    this.#reader = open(settings.file);
  }

  get played(): Played {
    const { outbound, tooShort, tooLong, ...played } = this.#counts;
    return { ...played, skipped: { outbound, tooShort, tooLong } };
  }

  /** The packet to play next; undefined when the last round is over. */
  get packet(): CapturedPacket | undefined {
    return this.#packet;
  }

  /** When it is due, by the clock. */
  get due(): number {
    return this.#due;
  }

  /**
   * What the recording's clock shows now, in nanoseconds since 1970: at full speed, the latest time of a packet so far. It goes on
   * through all rounds.
   */
  get nanos(): bigint {
    const { speed } = this.#settings;
    if (speed === 0 || this.#origin === undefined) return this.#latest;
    const { nanos, at } = this.#origin;
    return nanos + BigInt(Math.round((this.#clock() - at) * speed));
  }

  /** The packet has come in: takes the next. @param maxBytes what a frame holds. @throws ERR_CAPTURE_FILE: there is no next */
  advance(maxBytes: number): void {
    if (this.#packet !== undefined) this.#count(this.#packet);
    this.#packet = undefined;
    this.#packet = this.#next(maxBytes);
    const { nanos } = this.#packet ?? {};
    if (nanos === undefined) return; // without a time it is due as the one before
    if (nanos > this.#latest) this.#latest = nanos;
    const { speed } = this.#settings;
    if (speed === 0) return;
    this.#first ??= { nanos, at: this.#clock() };
    this.#origin ??= this.#first;
    this.#due = this.#first.at + Number(nanos - this.#first.nanos) / speed;
  }

  close(): void {
    this.#reader.close();
  }

  #next(maxBytes: number): CapturedPacket | undefined {
    for (;;) {
      const packet = this.#reader.next();
      if (packet === undefined) {
        if (!this.#again()) return undefined;
      } else if (this.#fits(packet, maxBytes)) {
        this.#fitted = true;
        return packet;
      }
    }
  }

  /** Begins the next round, if there is one. After one in which no packet came in there is none: it would be the same. */
  #again(): boolean {
    if (!this.#fitted || this.#round >= this.#settings.times) return false;
    this.#round++;
    this.#reader.close();
    this.#reader = open(this.#settings.file);
    this.#first = undefined;
    this.#fitted = false;
    return true;
  }

  #fits({ linkType, direction, data, interface: number }: CapturedPacket, maxBytes: number): boolean {
    const counts = this.#counts;
    if (linkType !== ETHERNET) {
      throw new TwinpathError('ERR_CAPTURE_FILE', {
        device: this.#settings.file,
        detail: `offset ${this.#reader.offset}: before it is a packet of interface ${number} with link type ${linkType}; a port takes only Ethernet, 1`,
      });
    }
    if (direction === Direction.OUTBOUND) counts.outbound++;
    else if (data.length < ETHERNET_BYTES) counts.tooShort++;
    else if (data.length > maxBytes) counts.tooLong++;
    else return true;
    return false;
  }

  #count({ data, length }: CapturedPacket): void {
    const counts = this.#counts;
    counts.played++;
    counts.playedBytes += data.length;
    if (data.length < length) counts.cut++;
  }
}

/** A pipe could block the thread for good, and has no second round. */
function open(file: string): CaptureReader {
  const found = calling(file, () => statSync(file, { throwIfNoEntry: false }));
  if (found !== undefined && !found.isFile()) {
    throw new TwinpathError('ERR_CAPTURE_FILE', {
      device: file,
      detail: `it is no regular file, and a port plays no other. Write what a pipe brings to a file first (cat ${file} > FILE), and play that`,
    });
  }
  return new CaptureReader(file); // which says why if there is none
}
