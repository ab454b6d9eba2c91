/**
 * Netlink's wire format: building requests and reading what the kernel answers, nothing else.
 *
 * Pure functions over bytes; any thread. Netlink is host-endian, and both architectures that Twinpath runs on are
 * little-endian. The reader never throws and never loops: a wrong length ends it, because a later kernel may send
 * messages that this code does not know.
 *
 * Payloads and values are views of the caller's buffer, valid until it is reused. Format: include/uapi/linux/netlink.h.
 */

/** nlmsg_flags. `REPLACE` and the flags after it share bits with `DUMP`; the message type decides. */
export const NLM_F = {
  REQUEST: 0x1,
  MULTI: 0x2,
  ACK: 0x4,
  DUMP_INTR: 0x10,
  REPLACE: 0x100,
  EXCL: 0x200,
  DUMP: 0x300,
  CREATE: 0x400,
  CAPPED: 0x100,
  ACK_TLVS: 0x200,
} as const;

/** Message types below NLMSG_MIN_TYPE, the same in every family. */
export const NLMSG = { NOOP: 1, ERROR: 2, DONE: 3, OVERRUN: 4, MIN_TYPE: 16 } as const;

const HEADER = 16;
const ATTRIBUTE_HEADER = 4;
const NLA_F_NESTED = 0x8000;
const NLA_TYPE_MASK = 0x3fff;

const align4 = (length: number): number => (length + 3) & ~3;
const text = new TextDecoder();
const utf8 = new TextEncoder();

/**
 * Builds one message at a time: `begin` starts over in the same memory, which grows if needed. Attributes are written in
 * call order; `nest` and `end` must pair.
 */
export class MessageBuilder {
  #bytes = new Uint8Array(512);
  #view = new DataView(this.#bytes.buffer);
  #length = 0;
  readonly #open: number[] = [];

  /** `header` is the family's fixed structure (ifinfomsg, tcmsg, genlmsghdr …), copied. */
  begin(type: number, flags: number, header?: ArrayBufferView): this {
    this.#open.length = 0;
    this.#length = 0;
    this.#reserve(HEADER);
    this.#view.setUint16(4, type, true);
    this.#view.setUint16(6, flags, true);
    if (header) this.#append(new Uint8Array(header.buffer, header.byteOffset, header.byteLength));
    return this;
  }

  bytes(type: number, value: Uint8Array): this {
    this.#attribute(type, value.length);
    this.#append(value);
    return this;
  }

  /** NUL-terminated: NLA_STRING and NLA_NUL_STRING of the kernel both accept that. */
  string(type: number, value: string): this {
    return this.bytes(type, utf8.encode(`${value}\0`));
  }

  u8(type: number, value: number): this {
    const at = this.#attribute(type, 1);
    this.#reserve(1);
    this.#bytes[at] = value;
    return this;
  }

  u16(type: number, value: number): this {
    const at = this.#attribute(type, 2);
    this.#reserve(2);
    this.#view.setUint16(at, value, true);
    return this;
  }

  u32(type: number, value: number): this {
    const at = this.#attribute(type, 4);
    this.#reserve(4);
    this.#view.setUint32(at, value, true);
    return this;
  }

  /** Opens a nested attribute with NLA_F_NESTED, which ethtool requires and rtnetlink accepts. */
  nest(type: number): this {
    this.#open.push(this.#attribute(type | NLA_F_NESTED, 0) - ATTRIBUTE_HEADER);
    return this;
  }

  end(): this {
    const start = this.#open.pop();
    if (start === undefined) throw new RangeError('end() without nest()');
    this.#view.setUint16(start, this.#length - start, true);
    return this;
  }

  /** The finished message, a view that is valid until the next `begin`. */
  finish(sequence: number): Uint8Array {
    if (this.#open.length > 0) throw new RangeError('nest() without end()');
    this.#view.setUint32(0, this.#length, true);
    this.#view.setUint32(8, sequence, true);
    this.#view.setUint32(12, 0, true);
    return this.#bytes.subarray(0, this.#length);
  }

  /** Writes an attribute's header and returns the position of its payload. */
  #attribute(type: number, length: number): number {
    if (length + ATTRIBUTE_HEADER > 0xffff) throw new RangeError(`attribute of ${length} bytes`);
    const at = this.#length;
    this.#reserve(ATTRIBUTE_HEADER);
    this.#view.setUint16(at, length + ATTRIBUTE_HEADER, true);
    this.#view.setUint16(at + 2, type, true);
    return this.#length;
  }

  #append(value: Uint8Array): void {
    const at = this.#length;
    this.#reserve(value.length);
    this.#bytes.set(value, at);
  }

  /** Extends the message by `length` zero bytes and its padding. */
  #reserve(length: number): void {
    const start = this.#length;
    const end = start + align4(length);
    if (end > this.#bytes.length) {
      const larger = new Uint8Array(Math.max(end, this.#bytes.length * 2));
      larger.set(this.#bytes.subarray(0, start));
      this.#bytes = larger;
      this.#view = new DataView(larger.buffer);
    }
    this.#bytes.fill(0, start, end);
    this.#length = end;
  }
}

export interface Message {
  readonly type: number;
  readonly flags: number;
  readonly sequence: number;
  /** Everything after the 16 bytes of nlmsghdr. */
  readonly payload: Uint8Array;
}

/** The messages of one datagram, up to the first header whose length does not fit. */
export function parseMessages(datagram: Uint8Array): Message[] {
  const view = viewOf(datagram);
  const found: Message[] = [];
  for (let at = 0; at + HEADER <= datagram.length; ) {
    const length = view.getUint32(at, true);
    if (length < HEADER || length > datagram.length - at) break;
    found.push({
      type: view.getUint16(at + 4, true),
      flags: view.getUint16(at + 6, true),
      sequence: view.getUint32(at + 8, true),
      payload: datagram.subarray(at + HEADER, at + length),
    });
    at += Math.ceil(length / 4) * 4; // not align4, which makes a length from 2^31 on negative
  }
  return found;
}

/** One level of attributes, by type. An attribute that is absent or too short reads as the given default. */
export class Attributes {
  static readonly none = new Attributes(new Uint8Array(0));
  readonly list: readonly { readonly type: number; readonly value: Uint8Array }[];

  /** @param start position of the first attribute: the size of the family's fixed header. */
  constructor(payload: Uint8Array, start = 0) {
    const view = viewOf(payload);
    const list: { type: number; value: Uint8Array }[] = [];
    for (let at = align4(start); at + ATTRIBUTE_HEADER <= payload.length; ) {
      const length = view.getUint16(at, true);
      if (length < ATTRIBUTE_HEADER || length > payload.length - at) break;
      list.push({
        type: view.getUint16(at + 2, true) & NLA_TYPE_MASK,
        value: payload.subarray(at + ATTRIBUTE_HEADER, at + length),
      });
      at += align4(length);
    }
    this.list = list;
  }

  get(type: number): Uint8Array | undefined {
    return this.list.find((attribute) => attribute.type === type)?.value;
  }

  has(type: number): boolean {
    return this.get(type) !== undefined;
  }

  nested(type: number): Attributes {
    const value = this.get(type);
    return value ? new Attributes(value) : Attributes.none;
  }

  u8(type: number, otherwise = 0): number {
    return this.get(type)?.[0] ?? otherwise;
  }

  u16(type: number, otherwise = 0): number {
    const value = this.get(type);
    return value && value.length >= 2 ? viewOf(value).getUint16(0, true) : otherwise;
  }

  u32(type: number, otherwise = 0): number {
    const value = this.get(type);
    return value && value.length >= 4 ? viewOf(value).getUint32(0, true) : otherwise;
  }

  string(type: number): string {
    const value = this.get(type);
    return value ? decodeString(value) : '';
  }

  /** All attributes of that type. */
  strings(type: number): string[] {
    return this.list.filter((attribute) => attribute.type === type).map(({ value }) => decodeString(value));
  }
}

/** Up to the first NUL. */
export function decodeString(value: Uint8Array): string {
  const end = value.indexOf(0);
  return text.decode(end < 0 ? value : value.subarray(0, end));
}

export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

export interface Acknowledgement {
  /** 0, or a negative errno. */
  readonly error: number;
  /** The kernel's own explanation (extended acknowledgement), or ''. */
  readonly text: string;
}

const EXTACK_MSG = 1;

/** Reads an NLMSG_ERROR, or the NLMSG_DONE that ends a dump and may hold an error too. */
export function parseAcknowledgement(message: Message): Acknowledgement {
  const { payload, flags, type } = message;
  const view = viewOf(payload);
  const error = payload.length >= 4 ? Math.min(0, view.getInt32(0, true)) : 0;
  if (!(flags & NLM_F.ACK_TLVS)) return { error, text: '' };
  let start = 4;
  if (type === NLMSG.ERROR) {
    // The request follows: only its header if the kernel capped it, else all of it.
    const request = flags & NLM_F.CAPPED || payload.length < 8 ? HEADER : view.getUint32(4, true);
    start += Math.min(request, payload.length);
  }
  return { error, text: new Attributes(payload, start).string(EXTACK_MSG) };
}
