/**
 * Small handlers that are measured, by the option `kind`. `verdict`, `header` and `checksum` do what the modules of the same
 * names in wasm/perf do.
 */
import { update16 } from '../../src/handler/checksum.ts';
import type { Handler, HandlerContext } from '../../src/handler/handler.ts';
import { DELIVER, TX } from '../../src/handler/handler.ts';
import { EtherType } from '../../src/net/ethernet.ts';

const IPV4_BYTES = 34;

const KINDS: Readonly<Record<string, (context: HandlerContext) => Handler>> = {
  /** Sends each packet back as it came. */
  verdict({ burst }) {
    const sent = TX;
    return () => {
      for (let i = 0; i < burst.length; i++) burst.verdict[i] = sent;
    };
  },

  /** Sends IPv4 packets back. */
  header({ burst }) {
    const sent = TX;
    return () => {
      for (let i = 0; i < burst.length; i++) {
        const packet = burst.packet(i);
        if (packet.length < IPV4_BYTES) continue;
        if (packet.u16(12) === EtherType.IPV4 && packet.u8(14) >> 4 === 4) burst.verdict[i] = sent;
      }
    };
  },

  /** Sends packets back with a smaller time to live and the IPv4 checksum updated. */
  checksum({ burst }) {
    const sent = TX;
    return () => {
      for (let i = 0; i < burst.length; i++) {
        const packet = burst.packet(i);
        if (packet.length < IPV4_BYTES) continue;
        const before = packet.u16(22);
        const after = (before - 0x100) & 0xffff;
        packet.setU16(22, after);
        packet.setU16(24, update16(packet.u16(24), before, after));
        burst.verdict[i] = sent;
      }
    };
  },

  /** Counts packets by their EtherType and drops them, as the other receivers of the benchmark `node-libs` do. */
  count() {
    const types = new Float64Array(65_536);
    return (burst) => {
      for (let i = 0; i < burst.length; i++) types[burst.packet(i).u16(12)]!++;
    };
  },

  /** Gives every packet to the application. */
  deliver({ burst }) {
    return () => {
      for (let i = 0; i < burst.length; i++) burst.verdict[i] = DELIVER;
    };
  },
};

export const create = ({ kind }: Record<string, unknown>, context: HandlerContext): Handler =>
  KINDS[kind as string]!(context);
