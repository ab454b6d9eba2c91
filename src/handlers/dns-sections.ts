/**
 * Walks the sections of a DNS message (RFC 1035, section 4) to find its OPT record (RFC 6891).
 *
 * A client that sends OPT must get OPT back, even if its message is wrong. So the walk covers messages of any opcode, with
 * any number of questions and records, as far as they can be read. Each step advances by at least a byte and stays inside
 * the message, so the walk ends. One object per worker; it allocates nothing.
 */
import type { Packet } from '../handler/packet.ts';

export const TYPE_OPT = 41;

/** Bytes of the header, and of type and class in the question. */
export const HEADER_BYTES = 12;
export const QUESTION_BYTES = 4;
/** Of type, class, time to live and length of a record. */
const RECORD_BYTES = 10;
const OPTION_BYTES = 4;

const MAX_NAME = 255;
const MAX_LABEL = 63;
/** The two upper bits of a pointer to an earlier name. */
const POINTER = 0xc0;

export class DnsSections {
  /** Position of the OPT record's type, which size, code, version, flags and options follow; -1 without OPT. */
  opt = -1;
  /** Whether the message has all the records it counts, and at most one OPT: of the root, with complete options. */
  isWhole = false;
  #at = 0;

  /** Reads the message from `at` to `end`, whose header must be complete. */
  read(packet: Packet, at: number, end: number): void {
    this.opt = -1;
    this.isWhole = false;
    this.#at = at + HEADER_BYTES;
    for (let i = packet.u16(at + 4); i > 0; i--) if (!this.#skip(packet, end, QUESTION_BYTES)) return;
    for (let i = packet.u16(at + 6) + packet.u16(at + 8); i > 0; i--) if (!this.#record(packet, end)) return;
    let isRight = true;
    let opts = 0;
    for (let i = packet.u16(at + 10); i > 0; i--) {
      const name = this.#at;
      if (!this.#name(packet, end)) return;
      const type = this.#at;
      const data = type + RECORD_BYTES;
      if (data > end) return;
      this.#at = data + packet.u16(data - 2);
      if (packet.u16(type) === TYPE_OPT) {
        if (opts++ === 0) this.opt = type;
        isRight = isRight && type === name + 1 && areWhole(packet, data, Math.min(this.#at, end));
      }
      if (this.#at > end) return;
    }
    this.isWhole = isRight && opts <= 1;
  }

  #record(packet: Packet, end: number): boolean {
    if (!this.#skip(packet, end, RECORD_BYTES)) return false;
    this.#at += packet.u16(this.#at - 2);
    return this.#at <= end;
  }

  /** Skips a name and `bytes` more. */
  #skip(packet: Packet, end: number, bytes: number): boolean {
    if (!this.#name(packet, end)) return false;
    this.#at += bytes;
    return this.#at <= end;
  }

  /** Skips a name. A pointer ends the name and is not followed. */
  #name(packet: Packet, end: number): boolean {
    const last = Math.min(end, this.#at + MAX_NAME);
    for (let label = this.#at; label < last; ) {
      const bytes = packet.u8(label);
      if (bytes === 0 || bytes >= POINTER) {
        this.#at = label + (bytes === 0 ? 1 : 2);
        return this.#at <= end;
      }
      if (bytes > MAX_LABEL) return false;
      label += bytes + 1;
    }
    return false;
  }
}

/** Whether EDNS options fill the bytes from `at` to `end` exactly. */
function areWhole(packet: Packet, at: number, end: number): boolean {
  let option = at;
  while (option + OPTION_BYTES <= end) option += OPTION_BYTES + packet.u16(option + 2);
  return option === end;
}

/** Bytes of the name at `at` with its final 0; 0 if it is compressed, too long, or does not end before `end`. */
export function nameBytesAt(packet: Packet, at: number, end: number): number {
  const last = Math.min(end, at + MAX_NAME);
  for (let label = at; label < last; ) {
    const bytes = packet.u8(label);
    if (bytes > MAX_LABEL) return 0;
    label += bytes + 1;
    if (bytes === 0) return label - at;
  }
  return 0;
}
