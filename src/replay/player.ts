/**
 * The network of a port that a capture file plays: the other end of the ports' memory paths, in a thread of its own. It
 * delivers the file's packets to the queues to which a device would deliver them, and collects what the ports send.
 *
 * Nothing is lost at any speed: a packet waits until its queue has an empty frame, and until there is room for an answer to
 * each packet before it, and in the ring of delivered packets while the application reads that (for one entry each: segments
 * that a handler orders of it are not counted). So a replay is as fast as the handler, and a packet for which there is no room
 * yet comes late.
 */
import { type PlainError, TwinpathError } from '../errors.ts';
import { unreadDeliveries } from '../memory/delivery-ring.ts';
import { Path } from '../memory/layout.ts';
import { METADATA_BYTES, METADATA_MARK, MetadataField } from '../memory/metadata.ts';
import { RssReader } from '../memory/rss-block.ts';
import type { Memory } from '../memory/shared.ts';
import { maxPacketBytes } from '../net/packet-size.ts';
import { MemoryPeer } from '../paths/memory/peer.ts';
import type { CapturedPacket } from '../pcapng/captured-packet.ts';
import type { CaptureWriter } from '../pcapng/file-writer.ts';
import { Direction } from '../pcapng/format.ts';
import { retaIndex } from '../rss/redirection.ts';
import { HashTables, RssHash } from '../rss/toeplitz.ts';
import type { ReplayMessage, ReplayWords } from './messages.ts';
import type { Recording } from './recording.ts';

/** The port into which the file is played. */
const PORT = 0;
const PATHS = [Path.SYNTHETIC, Path.VF] as const;
type PlayedPath = (typeof PATHS)[number];

const BURST = 64;
/** Packets of a queue that are not handled or whose answers are not collected: half a ring, so that the ring has room for each. */
const WINDOW = 1024;
/** Nothing wakes the thread: while packets are under way it looks again so soon, and else so late. */
const BUSY_MILLIS = 0.1;
const IDLE_MILLIS = 1;

export interface PlayerContext {
  readonly memory: Memory;
  readonly recording: Recording;
  /** Where what the ports send goes. */
  readonly out: CaptureWriter | undefined;
  readonly words: ReplayWords;
  readonly post: (message: ReplayMessage) => void;
  /** The recording's. */
  readonly clock: () => number;
}

export class Player {
  readonly #context: PlayerContext;
  readonly #queues: number;
  readonly #ports: number;
  readonly #maxBytes: number;
  readonly #rss: RssReader;
  readonly #hashTables = new HashTables(1);
  /** The hash of packets in a buffer of the reader, which has another buffer in each round. */
  #hash: { readonly buffer: ArrayBufferLike; readonly of: RssHash } | undefined;
  /** By port, path and queue. */
  readonly #peers = new Map<number, MemoryPeer>();
  #path: PlayedPath = Path.SYNTHETIC;
  #packet: CapturedPacket | undefined;
  #collected = 0;
  #collecting = PORT;
  #damage: PlainError | undefined;

  constructor(context: PlayerContext) {
    const { memory } = context;
    const { geometry } = memory.layout;
    this.#context = context;
    this.#queues = geometry.queues;
    this.#ports = geometry.ports;
    this.#maxBytes = maxPacketBytes(geometry.frameSize);
    this.#rss = new RssReader(memory, PORT);
    while (!this.#rss.take()); // it is written within a microsecond
  }

  /** Plays the recording, and goes on to collect. Returns when it is stopped. @throws ERR_CAPTURE_FILE */
  run(): void {
    const { recording, out, words, post } = this.#context;
    this.#advance();
    let through = false;
    while (!words.stopped) {
      const moved = this.#collect() + this.#play();
      if (!through && recording.packet === undefined) {
        through = true;
        post({ kind: 'through', played: recording.played, error: this.#damage });
      }
      if (words.takeFlush()) {
        out?.flush();
        post({ kind: 'flushed' });
      }
      if (moved === 0) words.wait(this.#pause());
    }
  }

  /** Delivers the packets that are due, as far as there is room. Returns how many. */
  #play(): number {
    const { recording, clock } = this.#context;
    if (recording.packet === undefined || !this.#choosePath()) return 0;
    let done = 0;
    while (done < BURST && recording.packet !== undefined) {
      if (recording.due > clock() || !this.#deliver(recording.packet)) break;
      this.#advance();
      done++;
    }
    return done;
  }

  /** A file that is damaged ends there: what it had before is played whole. */
  #advance(): void {
    try {
      this.#context.recording.advance(this.#maxBytes);
    } catch (error) {
      if (!(error instanceof TwinpathError)) throw error;
      this.#damage = error.toJSON();
    }
  }

  /**
   * The VF, while there is one. The path changes when its queues are empty, as with a host that moves the data path. Returns
   * whether packets may be delivered now.
   */
  #choosePath(): boolean {
    const wanted = this.#peer(PORT, Path.VF, 0) === undefined ? Path.SYNTHETIC : Path.VF;
    if (wanted === this.#path) return true;
    for (let queue = 0; queue < this.#queues; queue++)
      if ((this.#peer(PORT, this.#path, queue)?.undelivered ?? 0) > 0) return false;
    this.#path = wanted;
    return true;
  }

  #deliver(packet: CapturedPacket): boolean {
    const queue = this.#queues === 1 ? 0 : this.#queueOf(packet);
    const peer = this.#peer(PORT, this.#path, queue);
    if (peer === undefined) return false;
    const { undelivered } = peer;
    if (undelivered + peer.uncollected >= WINDOW) return false;
    const { memory, words } = this.#context;
    // Read after `undelivered`: a packet that the worker delivers meanwhile is counted twice, and never not at all.
    if (words.reading && undelivered + unreadDeliveries(memory, PORT, queue) >= memory.layout.deliveryEntries)
      return false;
    this.#packet = packet;
    return peer.deliver(1, this.#write) === 1;
  }

  readonly #write = (offset: number): number => {
    const { data, nanos = 0n } = this.#packet!;
    const { bytes, view } = this.#context.memory;
    const metadata = offset - METADATA_BYTES;
    view.setBigUint64(metadata + MetadataField.TIME, nanos, true);
    view.setUint32(metadata + MetadataField.HASH, 0, true);
    view.setUint32(metadata + MetadataField.TAG, 0, true);
    view.setUint32(metadata + MetadataField.MARK, METADATA_MARK, true); // and no rule
    bytes.set(data, offset);
    return data.length;
  };

  /** The queue of its flow, as of the port's present key and table. */
  #queueOf({ data }: CapturedPacket): number {
    const rss = this.#rss;
    if (rss.isStale || this.#hash?.buffer !== data.buffer) {
      rss.take(); // if it is being written, the one before serves
      const of = new RssHash(new DataView(data.buffer), rss.key);
      of.use(this.#hashTables.of(rss.key), rss.hashTypes);
      this.#hash = { buffer: data.buffer, of };
    }
    return rss.table[retaIndex(this.#hash!.of.of(data.byteOffset, data.length))]!;
  }

  /** Takes what the ports have sent. Returns how many. */
  #collect(): number {
    const { words } = this.#context;
    const before = this.#collected;
    for (let port = 0; port < this.#ports; port++) {
      this.#collecting = port;
      for (const path of PATHS) {
        for (let queue = 0; queue < this.#queues; queue++) {
          const peer = this.#peer(port, path, queue);
          while (peer !== undefined && peer.collect(BURST, this.#take) === BURST);
        }
      }
    }
    words.collected = this.#collected;
    return this.#collected - before;
  }

  readonly #take = (offset: number, length: number): void => {
    const { memory, out, recording } = this.#context;
    this.#collected++;
    out?.write({
      interface: this.#collecting,
      nanos: recording.nanos,
      data: memory.bytes.subarray(offset, offset + length),
      direction: Direction.OUTBOUND,
    });
  };

  #pause(): number {
    const { recording, clock } = this.#context;
    if (recording.packet === undefined) return IDLE_MILLIS;
    const wait = (recording.due - clock()) / 1e6;
    return wait > 0 ? Math.min(wait, IDLE_MILLIS) : BUSY_MILLIS;
  }

  /** The peer of a queue; another one after the path has come back, undefined while it is away. */
  #peer(port: number, path: PlayedPath, queue: number): MemoryPeer | undefined {
    const key = (port * this.#queues + queue) * 2 + (path === Path.VF ? 1 : 0);
    const known = this.#peers.get(key);
    if (known?.alive) return known;
    const attached = MemoryPeer.attach(this.#context.memory, port, queue, path);
    if (attached === undefined) this.#peers.delete(key);
    else this.#peers.set(key, attached);
    return attached;
  }
}
