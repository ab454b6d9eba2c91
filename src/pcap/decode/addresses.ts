/** Addresses in decoded packets, as arrays of their bytes. */

const hex = (byte: number): string => byte.toString(16).padStart(2, '0');

class Address {
  readonly addr: number[];

  constructor(bytes: Uint8Array, offset: number, length: number) {
    this.addr = [...bytes.subarray(offset, offset + length)];
  }
}

/** 'aa:bb:cc:dd:ee:ff' */
export class EthernetAddr extends Address {
  static readonly BYTES = 6;

  constructor(bytes: Uint8Array, offset = 0) {
    super(bytes, offset, EthernetAddr.BYTES);
  }

  override toString(): string {
    return this.addr.map(hex).join(':');
  }
}

/** As long as the header of the packet says: 8 bytes at most. */
export class SLLAddr extends Address {
  override toString(): string {
    return this.addr.map(hex).join(':');
  }
}

/** '10.0.0.1' */
export class IPv4Addr extends Address {
  static readonly BYTES = 4;

  constructor(bytes: Uint8Array, offset = 0) {
    super(bytes, offset, IPv4Addr.BYTES);
  }

  override toString(): string {
    return this.addr.join('.');
  }
}

/** Eight groups of four digits, none left out. */
export class IPv6Addr extends Address {
  static readonly BYTES = 16;

  constructor(bytes: Uint8Array, offset = 0) {
    super(bytes, offset, IPv6Addr.BYTES);
  }

  override toString(): string {
    const groups = Array.from({ length: 8 }, (_, i) => hex(this.addr[2 * i]!) + hex(this.addr[2 * i + 1]!));
    return groups.join(':');
  }
}
