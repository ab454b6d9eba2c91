/**
 * Turns a DNS query into its response, in place (RFC 1035, section 4; EDNS: RFC 6891).
 *
 * Header and question stay in place, with the client's upper and lower case; the answer follows them. It answers queries
 * of opcode QUERY with one question of class IN and no additional record but one OPT. A malformed query that has a header
 * gets FORMERR, another opcode NOTIMP. A response has an OPT record if and only if the query had one (RFC 6891, 6.1.1 and
 * 7).
 */
import type { Packet } from '../handler/packet.ts';
import { type Answer, Code, type DnsAnswers, REFUSED } from './dns-answers.ts';
import { DnsSections, HEADER_BYTES, nameBytesAt, QUESTION_BYTES, TYPE_OPT } from './dns-sections.ts';

/** Result of `respond` for a message that is itself a response. */
export const NOT_A_QUERY = -1;

const RESPONSE = 0x8000;
const OPCODE = 0x7800;
const AUTHORITATIVE = 0x0400;
const TRUNCATED = 0x0200;
const RECURSION_DESIRED = 0x0100;

const CLASS_IN = 1;
/** Bytes of an OPT record without options: the root's name, type, size, extended flags, and the length of the options. */
const OPT_BYTES = 11;
/** Positions after the type of an OPT record: the size that the client accepts, the version, the flags. */
const SIZE = 2;
const VERSION = 5;
const FLAGS = 6;
/** RFC 3225: the client accepts DNSSEC records. The bit must be copied, although this server has none. */
const DNSSEC_OK = 0x8000;

/** Most bytes of a response, without and with EDNS. 1232 bytes pass every IPv6 link without fragmentation. */
const PLAIN_BYTES = 512;
const MAX_BYTES = 1232;

/** One per thread. */
const sections = new DnsSections();

/**
 * Answers the message of `bytes` bytes at `at`, and changes the packet's length.
 *
 * @returns bytes of the response. 0: the message is too short to be answered. NOT_A_QUERY: it is a response itself, and
 *   the packet is unchanged
 */
export function respond(packet: Packet, at: number, bytes: number, answers: DnsAnswers): number {
  if (bytes < HEADER_BYTES) return 0;
  const flags = packet.u16(at + 2);
  if ((flags & RESPONSE) !== 0) return NOT_A_QUERY;

  const end = at + bytes;
  const name = at + HEADER_BYTES;
  const hasQuestion = packet.u16(at + 4) === 1;
  const nameBytes = hasQuestion ? nameBytesAt(packet, name, end) : 0;
  const tail = name + nameBytes + QUESTION_BYTES;
  const isReadable = nameBytes > 0 && tail <= end;
  sections.read(packet, at, end);
  const { opt, isWhole } = sections;
  const question = isReadable ? tail : name;
  // An unsupported version of EDNS is refused before any other check (RFC 6891, 6.1.3).
  if (opt >= 0 && packet.u8(opt + VERSION) !== 0) {
    return refuse(packet, at, question, flags, Code.BAD_VERSION, opt);
  }
  if ((flags & OPCODE) !== 0) return refuse(packet, at, question, flags, Code.NOT_IMPLEMENTED, opt);
  const additional = packet.u16(at + 10);
  const asksOneThing = isReadable && packet.u32(at + 6) === 0 && additional === (opt < 0 ? 0 : 1);
  if (!asksOneThing || !isWhole) return refuse(packet, at, question, flags, Code.FORMAT_ERROR, opt);

  let answer: Answer = REFUSED;
  if (packet.u16(tail - 2) === CLASS_IN) {
    answer = answers.find(packet, name, nameBytes, packet.u16(tail - QUESTION_BYTES));
  }
  const isEdns = opt >= 0;
  const limit = isEdns ? Math.min(Math.max(packet.u16(opt + SIZE), PLAIN_BYTES), MAX_BYTES) : PLAIN_BYTES;
  const dnssec = isEdns ? packet.u16(opt + FLAGS) & DNSSEC_OK : 0;
  const optBytes = isEdns ? OPT_BYTES : 0;
  const fits = tail - at + answer.bytes.length + optBytes <= limit;
  const last = tail + (fits ? answer.bytes.length : 0);
  packet.length = last + optBytes;
  const kind = RESPONSE | (answer.authoritative ? AUTHORITATIVE : 0) | (fits ? 0 : TRUNCATED);
  packet.setU16(at + 2, kind | (flags & RECURSION_DESIRED) | answer.code);
  packet.setU16(at + 6, fits ? answer.answers : 0);
  packet.setU16(at + 8, fits ? answer.authorities : 0);
  if (fits) packet.write(tail, answer.bytes);
  if (isEdns) writeOpt(packet, last, 0, dnssec);
  return packet.length - at;
}

/**
 * Answers with a code only: the header, and for a client with EDNS also the question and an OPT record, as RFC 6891, 7,
 * requires.
 *
 * @param question position where the question ends; the header's end if it could not be read
 * @param opt position of the query's OPT record, or -1
 */
function refuse(
  packet: Packet,
  at: number,
  question: number,
  flags: number,
  code: number,
  opt: number,
): number {
  const isEdns = opt >= 0;
  const last = isEdns ? question : at + HEADER_BYTES;
  const dnssec = isEdns ? packet.u16(opt + FLAGS) & DNSSEC_OK : 0;
  packet.length = last + (isEdns ? OPT_BYTES : 0);
  packet.setU16(at + 2, RESPONSE | (flags & (OPCODE | RECURSION_DESIRED)) | (code & 15));
  packet.setU16(at + 4, last > at + HEADER_BYTES ? 1 : 0);
  packet.setU32(at + 6, 0);
  packet.setU16(at + 10, isEdns ? 1 : 0);
  if (isEdns) writeOpt(packet, last, code >> 4, dnssec);
  return packet.length - at;
}

function writeOpt(packet: Packet, at: number, codeHigh: number, dnssec: number): void {
  packet.setU8(at, 0);
  packet.setU16(at + 1, TYPE_OPT);
  packet.setU16(at + 3, MAX_BYTES);
  packet.setU16(at + 5, codeHigh << 8); // and version 0
  packet.setU16(at + 7, dnssec);
  packet.setU16(at + 9, 0);
}
