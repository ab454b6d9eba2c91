/**
 * The part of a packet reader that goes over the headers between IP and the protocol above, and reads that protocol's ports and
 * flags. See packet-reader.ts; net/ipv4.ts and net/ipv6.ts are the same in TypeScript.
 */
import { AUTHENTICATION, EXTENSION_BYTES, MAX_EXTENSIONS, PORTS_BYTES, Protocol } from '../net/ip.ts';
import { Field, type Needs, type PacketAccess, type Place } from './packet-access.ts';

const MORE_OR_OFFSET = 0xfff9;
const OFFSET = 0xfff8;
const FRAGMENT_HEADER = 44;
const OPTION_HEADERS = [0, 43, 60];
const TCP_FLAGS = 13;
const { TCP, UDP } = Protocol;

export class UpperReader {
  readonly #access: PacketAccess;

  constructor(access: PacketAccess) {
    this.#access = access;
  }

  /** Goes over the headers between IP and its protocol; the authentication header may follow either version. */
  walk(version: 'ipv4' | 'ipv6'): void {
    const options = version === 'ipv6' ? OPTION_HEADERS : [];
    const fragments = version === 'ipv6' ? [FRAGMENT_HEADER] : [];
    const program = this.#access.program;
    const followed = [...options, ...fragments, AUTHENTICATION];
    for (let header = 0; header <= MAX_EXTENSIONS; header++) {
      const name = (what: string): string => `${version} ${what} ${header}`;
      program.label(name('walk')).loadW(2, 9, Field.NEXT);
      const inside = header === MAX_EXTENSIONS ? 'protocol unknown' : name('in');
      for (const type of followed) program.jeqImm(2, type, inside);
      program.jump('upper');
      if (header === MAX_EXTENSIONS) return;
      program.label(inside);
      this.#access.requireBytes(EXTENSION_BYTES, 'not ip');
      const { base, at } = this.#access.read(4, 8, 0, 'not ip');
      program.loadW(3, 9, Field.NEXT).loadB(4, base, at).storeW(9, 4, Field.NEXT);
      for (const type of fragments) program.jeqImm(3, type, name('fragment'));
      program.loadB(5, base, at + 1).jeqImm(3, AUTHENTICATION, name('authentication'));
      program.aluImm('add', 5, 1).aluImm('lsh', 5, 3).jump(name('past'));
      program.label(name('authentication')).aluImm('add', 5, 2).aluImm('lsh', 5, 2).jump(name('past'));
      if (fragments.length > 0) this.#readFragment(name, { base, at }, followed);
      program.label(name('past')).loadW(8, 9, Field.AT).alu('add', 8, 5).storeW(9, 8, Field.AT);
    }
  }

  /** A fragment header of IPV6, whose next header is in register 4. */
  #readFragment(name: (what: string) => string, { base, at }: Place, followed: readonly number[]): void {
    const program = this.#access.program;
    program
      .label(name('fragment'))
      .loadH(3, base, at + 2)
      .swapBytes(3, 16)
      .movImm(5, EXTENSION_BYTES)
      .jumpIfImm('jset', 3, MORE_OR_OFFSET, name('is fragment'))
      .jump(name('past'))
      .label(name('is fragment'))
      .movImm(2, 1)
      .storeW(9, 2, Field.FRAGMENT)
      .jumpIfImm('jset', 3, OFFSET, name('later'))
      .jump(name('past'))
      .label(name('later'));
    // If another extension header follows, only the first fragment shows the protocol.
    for (const type of followed) program.jeqImm(4, type, 'protocol unknown');
    program.jump('later fragment');
  }

  /** The header above IP, if the packet shows it. */
  readProtocol({ ports, flags }: Needs): void {
    const program = this.#access.program;
    program
      .label('protocol unknown')
      .loadW(2, 9, Field.FRAGMENT)
      .jeqImm(2, 0, 'ip read')
      .movImm(2, 2)
      .storeW(9, 2, Field.FRAGMENT)
      .jump('ip read')

      .label('later fragment')
      .movImm(2, 2)
      .storeW(9, 2, Field.FRAGMENT)
      .loadW(2, 9, Field.NEXT)
      .storeW(9, 2, Field.PROTOCOL)
      .jump('ip read')

      .label('upper');
    this.#access.requireBytes(0, 'not ip');
    program
      .loadW(2, 9, Field.NEXT)
      .jeqImm(2, TCP, 'ports')
      .jeqImm(2, UDP, 'ports')
      .jump('protocol read')
      .label('ports');
    this.#access.requireBytes(PORTS_BYTES, 'not ip');
    if (ports) {
      const { base, at } = this.#access.read(PORTS_BYTES, 8, 0, 'not ip');
      program.loadH(4, base, at).swapBytes(4, 16).storeW(9, 4, Field.FROM);
      program
        .loadH(4, base, at + 2)
        .swapBytes(4, 16)
        .storeW(9, 4, Field.TO);
    }
    if (flags) {
      program.loadW(2, 9, Field.NEXT).jneImm(2, TCP, 'protocol read');
      this.#access.requireBytes(TCP_FLAGS + 1, 'protocol read');
      const { base, at } = this.#access.read(1, 8, TCP_FLAGS, 'protocol read');
      program.loadB(4, base, at).storeW(9, 4, Field.FLAGS);
    }
    program.label('protocol read').loadW(2, 9, Field.NEXT).storeW(9, 2, Field.PROTOCOL);
  }
}
