/**
 * Counts packets by EtherType, IP protocol and flow, and drops them.
 *
 * Each worker counts for itself, and writes a report to stderr after each `every` packets: one line, and one for each of
 * the flows with the most packets. It does not add up the workers: the port's statistics have the totals.
 *
 * NB: a report is written with write(2). A polling worker never returns to the event loop, which `process.stderr` and
 * `console` need. A slow reader of stderr stops the worker, so keep `every` large.
 *
 * Copy from it: a handler with options and state, which `create` makes once per worker; state in typed arrays whose size
 * does not depend on the traffic.
 *
 * ```ts
 * import type { Burst, HandlerContext, HandlerObject } from 'twinpath/handler';
 * import { ETHERNET_BYTES, EtherType, Flow, PASS, Path, Protocol, TX } from 'twinpath/handler';
 * ```
 */
import { writeSync } from 'node:fs';
import type { Burst } from '../handler/burst.ts';
import type { HandlerContext, HandlerObject } from '../handler/handler.ts';
import { PASS, TX } from '../handler/handler.ts';
import { Path } from '../memory/layout.ts';
import { ETHERNET_BYTES, EtherType, LOWEST_TYPE } from '../net/ethernet.ts';
import { Flow } from '../net/flow.ts';
import { Protocol } from '../net/ip.ts';
import { Ipv4Field } from '../net/ipv4.ts';
import { Ipv6Field } from '../net/ipv6.ts';
import { wholeNumber } from '../validation.ts';
import { FlowTable } from './flow-table.ts';
import { checkNames, otherwiseOf } from './options.ts';

const STDERR = 2;
const { PROTOCOL } = Ipv4Field;
const { NEXT_HEADER } = Ipv6Field;
const ETHER_TYPE_NAMES = named(EtherType);
const PROTOCOL_NAMES = named(Protocol);
/** Lines of some 130 bytes that fit a pipe of 64 KiB. */
const MAX_FLOWS = 500;

/**
 * @param options `every`: packets of one worker between two reports, default 1,000,000; 0 writes no reports.
 *   `top`: flows in a report, 0 to 500, default 10; 0 counts no flows.
 *   `otherwise`: 'drop' (default) drops all packets; 'pass' gives them to the machine, whose own packets go out
 * @throws TwinpathError ERR_OPTION_UNKNOWN, ERR_OPTION_INVALID
 */
export function create(options: Record<string, unknown>, context: HandlerContext): HandlerObject {
  let settings = settingsOf(options);
  // Float64: a Uint32 is full after five minutes at 14 Mpps.
  const types = new Float64Array(0x10000);
  const protocols = new Float64Array(0x100);
  const flow = new Flow();
  let flows = settings.top === 0 ? undefined : new FlowTable();
  let runts = 0;
  let seen = 0;
  let next = settings.every;

  const handle = (burst: Burst): void => {
    const { every, top, passes } = settings;
    const table = flows;
    for (let i = 0; i < burst.length; i++) {
      if (passes) burst.verdict[i] = burst.path[i] === Path.HOST ? TX : PASS;
      const packet = burst.packet(i);
      if (packet.length < ETHERNET_BYTES) {
        runts++;
        continue;
      }
      const isFlow = table !== undefined && flow.read(packet);
      const l3 = table === undefined ? packet.l3 : flow.l3;
      const type = packet.u16(l3 - 2);
      types[type]!++;
      // Position of the protocol field. A packet that ends before it is counted by type only.
      const at =
        type === EtherType.IPV4 ? l3 + PROTOCOL : type === EtherType.IPV6 ? l3 + NEXT_HEADER : packet.length;
      if (at < packet.length) protocols[packet.u8(at)]!++;
      if (table !== undefined && isFlow) table.add(packet, flow);
    }
    seen += burst.length;
    if (every === 0 || seen < next) return;
    next += every * Math.ceil((seen - next + 1) / every);
    const line = `queue ${context.queue}: ${seen} packets${summary(types, protocols, runts)}\n`;
    report(line + (table === undefined ? '' : topFlows(table, top)));
  };
  const configure = (changed: Record<string, unknown>) => {
    const now = settingsOf(changed);
    const table = now.top === 0 ? undefined : (flows ?? new FlowTable());
    return () => {
      if (now.every !== settings.every) next = seen + now.every;
      settings = now;
      flows = table;
    };
  };
  return { handle, configure };
}

interface Settings {
  readonly every: number;
  readonly top: number;
  readonly passes: boolean;
}

function settingsOf(options: Record<string, unknown>): Settings {
  checkNames('count', options, ['every', 'top', 'otherwise']);
  const most = Number.MAX_SAFE_INTEGER;
  return {
    every: wholeNumber('every', options.every ?? 1_000_000, 0, most, 'a number of packets'),
    top: wholeNumber('top', options.top ?? 10, 0, MAX_FLOWS, 'a number of flows'),
    passes: otherwiseOf(options, 'drop') === PASS,
  };
}

function topFlows(flows: FlowTable, top: number): string {
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

/** If the pipe is full (EAGAIN) or closed, the report is lost. A throw here would drop packets. */
function report(line: string): void {
  try {
    writeSync(STDERR, line);
  } catch {}
}

function named(numbers: Record<string, number>): ReadonlyMap<number, string> {
  return new Map(Object.entries(numbers).map(([name, number]) => [number, name.toLowerCase()]));
}
