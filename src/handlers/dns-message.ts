/**
 * Turns a DNS query into its response, in place (RFC 1035, section 4; EDNS: RFC 6891).
 *
 * The header and the question stay where they are, in the asker's own upper and lower case; the answer goes
 * behind them. Answers queries of opcode QUERY with one question of class IN; of additional records it knows
 * one OPT and nothing else. A malformed query that has a header gets FORMERR.
 */
import type { Packet } from '../datapath/packet.ts';
import {
  type Answer,
  BAD_VERSION,
  Code,
  type DnsAnswers,
  HEADER_BYTES,
  QUESTION_BYTES,
  REFUSED,
} from './dns-answers.ts';

/** What `respond` says of a message that asks nothing. */
export const NOT_A_QUERY = -1;

const RESPONSE = 0x8000;
const OPCODE = 0x7800;
const AUTHORITATIVE = 0x0400;
const TRUNCATED = 0x0200;
const RECURSION_DESIRED = 0x0100;

const CLASS_IN = 1;
const TYPE_OPT = 41;
const OPT_BYTES = 11;
/** RFC 3225: whether the asker takes DNSSEC records. There are none; the bit is copied all the same. */
const DNSSEC_OK = 0x8000;

const LONGEST_NAME = 255;
const LONGEST_LABEL = 63;

/** Bytes of a response: without EDNS, and at most. The second passes every IPv6 link in one piece. */
const PLAIN_BYTES = 512;
const MOST_BYTES = 1232;

/**
 * Answers the message of `bytes` bytes at `at`, changing the packet's length.
 *
 * @returns bytes of the response; 0 if the message is too short to be answered; NOT_A_QUERY, and the packet
 *   is as it was, if it is a response itself
 */
export function respond(packet: Packet, at: number, bytes: number, answers: DnsAnswers): number {
  if (bytes < HEADER_BYTES) return 0;
  const flags = packet.u16(at + 2);
  if ((flags & RESPONSE) !== 0) return NOT_A_QUERY;
  if ((flags & OPCODE) !== 0) return refuse(packet, at, flags, Code.NOT_IMPLEMENTED);

  const end = at + bytes;
  const additional = packet.u16(at + 10);
  const asksOneThing = packet.u16(at + 4) === 1 && packet.u32(at + 6) === 0 && additional <= 1;
  const name = at + HEADER_BYTES;
  const nameBytes = asksOneThing ? nameBytesAt(packet, name, end) : 0;
  const tail = name + nameBytes + QUESTION_BYTES;
  const isEdns = additional === 1;
  if (nameBytes === 0 || tail > end || (isEdns && !isOpt(packet, tail, end))) {
    return refuse(packet, at, flags, Code.FORMAT_ERROR);
  }

  let limit = PLAIN_BYTES;
  let answer: Answer = REFUSED;
  let dnssec = 0;
  if (isEdns) {
    limit = Math.min(Math.max(packet.u16(tail + 3), PLAIN_BYTES), MOST_BYTES);
    dnssec = packet.u16(tail + 7) & DNSSEC_OK;
  }
  if (isEdns && packet.u8(tail + 6) !== 0) answer = BAD_VERSION;
  else if (packet.u16(tail - 2) === CLASS_IN) {
    answer = answers.find(packet, name, nameBytes, packet.u16(tail - QUESTION_BYTES));
  }

  const optBytes = isEdns ? OPT_BYTES : 0;
  const fits = tail - at + answer.bytes.length + optBytes <= limit;
  const opt = tail + (fits ? answer.bytes.length : 0);
  packet.length = opt + optBytes;
  const said = RESPONSE | (answer.authoritative ? AUTHORITATIVE : 0) | (fits ? 0 : TRUNCATED);
  packet.setU16(at + 2, said | (flags & RECURSION_DESIRED) | (answer.code & 15));
  packet.setU16(at + 6, fits ? answer.answers : 0);
  packet.setU16(at + 8, fits ? answer.authorities : 0);
  if (fits) packet.write(tail, answer.bytes);
  if (isEdns) writeOpt(packet, opt, answer.code >> 4, dnssec);
  return packet.length - at;
}

/** Only the header goes back: what came with it could not be read. */
function refuse(packet: Packet, at: number, flags: number, code: number): number {
  packet.length = at + HEADER_BYTES;
  packet.setU16(at + 2, RESPONSE | (flags & (OPCODE | RECURSION_DESIRED)) | code);
  packet.setU32(at + 4, 0);
  packet.setU32(at + 8, 0);
  return HEADER_BYTES;
}

/** Bytes of the name at `at`, its final 0 included; 0 if it is compressed, too long or not ended before `end`. */
function nameBytesAt(packet: Packet, at: number, end: number): number {
  const last = Math.min(end, at + LONGEST_NAME);
  for (let label = at; label < last; ) {
    const bytes = packet.u8(label);
    if (bytes > LONGEST_LABEL) return 0;
    label += bytes + 1;
    if (bytes === 0) return label - at;
  }
  return 0;
}

/** An OPT record: of the root, and as long as it says. */
function isOpt(packet: Packet, at: number, end: number): boolean {
  if (at + OPT_BYTES > end || packet.u8(at) !== 0 || packet.u16(at + 1) !== TYPE_OPT) return false;
  return at + OPT_BYTES + packet.u16(at + 9) <= end;
}

function writeOpt(packet: Packet, at: number, codeHigh: number, dnssec: number): void {
  packet.setU8(at, 0);
  packet.setU16(at + 1, TYPE_OPT);
  packet.setU16(at + 3, MOST_BYTES);
  packet.setU16(at + 5, codeHigh << 8); // and version 0
  packet.setU16(at + 7, dnssec);
  packet.setU16(at + 9, 0);
}
