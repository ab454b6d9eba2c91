/**
 * Writes packets to a file: pcap with nanoseconds if its name ends in `.pcap`, else pcapng. Packets gather in a buffer, which is
 * written when it is full, on {@link CaptureWriter.flush} and at the end. Blocks on writes. Any thread, one object each.
 */
import { closeSync, openSync, writeSync } from 'node:fs';
import { calling } from './byte-source.ts';
import { MAX_CAPTURED, NANOS_PER_SECOND } from './captured-packet.ts';
import { NANOSECOND_MAGIC } from './classic.ts';
import { ETHERNET } from './format.ts';
import {
  enhancedPacketBytes,
  type Interface,
  interfaceDescription,
  type PacketRecord,
  putEnhancedPacket,
  type Section,
  sectionHeader,
} from './write.ts';

/** Room for the longest packet with all its options. */
const BUFFER = MAX_CAPTURED + 64 * 1024;
const RECORD = 16;

export interface CaptureWriterOptions extends Section {
  /** The interfaces that packets name by their position here. A pcap file has one. Default: one Ethernet without a name. */
  readonly interfaces?: readonly Interface[];
}

export class CaptureWriter implements Disposable {
  readonly file: string;
  readonly format: 'pcap' | 'pcapng';
  readonly #fd: number;
  readonly #bytes = new Uint8Array(BUFFER);
  readonly #view = new DataView(this.#bytes.buffer);
  #used = 0;
  #closed = false;

  /** Makes the file, or empties it, and writes its header. @throws ERR_CAPTURE_FILE */
  constructor(file: string, { interfaces = [{}], ...section }: CaptureWriterOptions = {}) {
    this.file = file;
    this.format = /\.pcap$/i.test(file) ? 'pcap' : 'pcapng';
    this.#fd = calling(file, () => openSync(file, 'w'));
    if (this.format === 'pcap') this.#add(classicHeader(interfaces[0]!));
    else
      for (const block of [sectionHeader(section), ...interfaces.map(interfaceDescription)]) this.#add(block);
  }

  /**
   * @param packet at most 262144 bytes. Of a pcap file neither interface, direction, queue nor verdict are kept
   * @throws ERR_CAPTURE_FILE, RangeError
   */
  write(packet: PacketRecord): void {
    const { data, length = data.length, nanos } = packet;
    if (data.length > MAX_CAPTURED)
      throw new RangeError(`a packet of ${data.length} bytes: ${MAX_CAPTURED} is the most`);
    if (this.format === 'pcapng') {
      this.#makeRoom(enhancedPacketBytes(packet));
      this.#used = putEnhancedPacket(packet, this.#view, this.#used);
      return;
    }
    this.#makeRoom(RECORD + data.length);
    const at = this.#used;
    this.#view.setUint32(at, Number(nanos / NANOS_PER_SECOND), true);
    this.#view.setUint32(at + 4, Number(nanos % NANOS_PER_SECOND), true);
    this.#view.setUint32(at + 8, data.length, true);
    this.#view.setUint32(at + 12, length, true);
    this.#bytes.set(data, at + RECORD);
    this.#used = at + RECORD + data.length;
  }

  /** Writes what has gathered. @throws ERR_CAPTURE_FILE */
  flush(): void {
    const bytes = this.#bytes.subarray(0, this.#used);
    this.#used = 0;
    for (let done = 0; done < bytes.length; ) {
      done += calling(this.file, () => writeSync(this.#fd, bytes, done));
    }
  }

  /** Writes the rest. May be called again. @throws ERR_CAPTURE_FILE; the file is closed all the same */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    try {
      this.flush();
    } finally {
      closeSync(this.#fd);
    }
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #add(bytes: Uint8Array): void {
    this.#makeRoom(bytes.length);
    this.#bytes.set(bytes, this.#used);
    this.#used += bytes.length;
  }

  #makeRoom(bytes: number): void {
    if (this.#used + bytes > BUFFER) this.flush();
  }
}

/** Version 2.4, time zone and accuracy 0. */
function classicHeader({ linkType = ETHERNET, snapLength = 0 }: Interface): Uint8Array {
  const words = [NANOSECOND_MAGIC, 0x0004_0002, 0, 0, snapLength === 0 ? MAX_CAPTURED : snapLength, linkType];
  const bytes = new Uint8Array(4 * words.length);
  const view = new DataView(bytes.buffer);
  for (const [i, word] of words.entries()) view.setUint32(4 * i, word, true);
  return bytes;
}
