/**
 * Counts what arrives by EtherType, IP protocol and flow, drops it, and now and then says what it saw.
 *
 * Each worker counts for itself and writes to stderr: the first time after `every` packets, the next after
 * `every` more: one line, and one for each of the flows that sent the most. Totals over the workers are the
 * port's statistics. Copy from it: a handler with options and with state, made by `create` once per worker;
 * state in typed arrays, of a size that no traffic can change.
 *
 * NB: it goes out by a write(2) of its own, because a worker that polls never returns to the event loop that
 * `process.stderr` and `console` wait for. A slow reader stops the worker meanwhile, so keep `every` large.
 *
 * ```ts
 * import type { Handler, HandlerContext } from 'twinpath/handler';
 * import { ETHERNET_BYTES, EtherType, PASS, Path, Protocol, TX } from 'twinpath/handler';
 * ```
 */
import { writeSync } from 'node:fs';
import type { Handler, HandlerContext } from '../handler/handler.ts';
import { PASS, TX } from '../handler/handler.ts';
import { Path } from '../memory/layout.ts';
import { ETHERNET_BYTES, EtherType, LOWEST_TYPE } from '../net/ethernet.ts';
import { Flow } from '../net/flow.ts';
import { Protocol } from '../net/ip.ts';
import { Ipv4Field } from '../net/ipv4.ts';
import { Ipv6Field } from '../net/ipv6.ts';
import { FlowTable } from './flow-table.ts';
import { onlyKnown, otherwiseOf, wholeNumber } from './options.ts';

const STDERR = 2;
const { PROTOCOL } = Ipv4Field;
const { NEXT_HEADER } = Ipv6Field;
const ETHER_TYPE_NAMES = named(EtherType);
const PROTOCOL_NAMES = named(Protocol);
/** Lines of some 130 bytes that still fit a pipe of 64 KiB. */
const MAX_FLOWS = 500;

/**
 * @param options `every`: packets of one worker from report to report; 0 never says anything; default
 *   1,000,000.
 *   `top`: flows to name in a report, up to 500; 0 names and counts none; default 10.
 *   `otherwise`: 'drop', the default, drops every packet; 'pass' gives it to the machine, and lets what the
 *   machine sends go out
 * @throws TwinpathError ERR_OPTION_UNKNOWN, ERR_OPTION_INVALID
 */
export function create(options: Record<string, unknown>, context: HandlerContext): Handler {
  onlyKnown('count', options, ['every', 'top', 'otherwise']);
  const most = Number.MAX_SAFE_INTEGER;
  const packets = { least: 0, most, otherwise: 1_000_000, what: 'a number of packets' };
  const every = wholeNumber(options, 'every', packets);
  const flowsNamed = { least: 0, most: MAX_FLOWS, otherwise: 10, what: 'a number of flows' };
  const top = wholeNumber(options, 'top', flowsNamed);
  const passes = otherwiseOf(options, 'drop') === PASS;

  // Float64: a Uint32 is full after five minutes at 14 Mpps.
  const types = new Float64Array(0x10000);
  const protocols = new Float64Array(0x100);
  const flow = new Flow();
  const flows = top === 0 ? undefined : new FlowTable();
  let runts = 0;
  let seen = 0;
  let next = every;

  return (burst) => {
    for (let i = 0; i < burst.length; i++) {
      if (passes) burst.verdict[i] = burst.path[i] === Path.HOST ? TX : PASS;
      const packet = burst.packet(i);
      if (packet.length < ETHERNET_BYTES) {
        runts++;
        continue;
      }
      const isFlow = flows !== undefined && flow.read(packet);
      const l3 = flows === undefined ? packet.l3 : flow.l3;
      const type = packet.u16(l3 - 2);
      types[type]!++;
      // Where the two IP headers say what they carry; one cut off before that is counted by type only.
      const at =
        type === EtherType.IPV4 ? l3 + PROTOCOL : type === EtherType.IPV6 ? l3 + NEXT_HEADER : packet.length;
      if (at < packet.length) protocols[packet.u8(at)]!++;
      if (flows !== undefined && isFlow) flows.add(packet, flow);
    }
    seen += burst.length;
    if (every === 0 || seen < next) return;
    next += every * Math.ceil((seen - next + 1) / every);
    const line = `queue ${context.queue}: ${seen} packets${summary(types, protocols, runts)}\n`;
    say(line + (flows === undefined ? '' : talkers(flows, top)));
  };
}

function talkers(flows: FlowTable, top: number): string {
  const lines = flows.top(top).map(({ name, packets, inherited, bytes }) => {
    const least = inherited === 0 ? '' : `${packets - inherited} to `;
    return `  ${name}: packets ${least}${packets}, bytes ${bytes}\n`;
  });
  return lines.join('');
}

function summary(types: Float64Array, protocols: Float64Array, runts: number): string {
  let lengths = 0;
  let text = '';
  types.forEach((count, type) => {
    if (type < LOWEST_TYPE) lengths += count;
    else if (count > 0)
      text += `, ${ETHER_TYPE_NAMES.get(type) ?? `0x${type.toString(16).padStart(4, '0')}`} ${count}`;
  });
  protocols.forEach((count, protocol) => {
    if (count > 0) text += `, ${PROTOCOL_NAMES.get(protocol) ?? `protocol ${protocol}`} ${count}`;
  });
  if (lengths > 0) text += `, 802.3 ${lengths}`;
  if (runts > 0) text += `, runts ${runts}`;
  return text;
}

/** A full pipe (EAGAIN) or a closed one costs the report, not the packets: this is not worth a throw. */
function say(line: string): void {
  try {
    writeSync(STDERR, line);
  } catch {}
}

function named(numbers: Record<string, number>): ReadonlyMap<number, string> {
  return new Map(Object.entries(numbers).map(([name, number]) => [number, name.toLowerCase()]));
}
