/**
 * Counts what arrives by EtherType and IP protocol, drops it, and now and then says what it saw.
 *
 * Each worker counts for itself and writes its own line to stderr: the first after `every` packets,
 * the next after `every` more. Totals over the workers are the port's statistics. Copy from it: a
 * handler with options and with state, made by `create` once per worker; state in typed arrays.
 *
 * NB: the line goes out by a write(2) of its own, because a worker that polls never returns to the
 * event loop that `process.stderr` and `console` wait for. A slow reader stops the worker meanwhile,
 * so keep `every` large.
 *
 * ```ts
 * import type { Handler, HandlerContext } from 'twinpath/handler';
 * ```
 */
import { writeSync } from 'node:fs';
import type { Handler, HandlerContext } from '../datapath/handler.ts';
import { ETHERNET_BYTES, EtherType, Protocol } from '../datapath/packet.ts';
import { TwinpathError } from '../errors.ts';

const STDERR = 2;
const ETHER_TYPE_NAMES = named(EtherType);
const PROTOCOL_NAMES = named(Protocol);
/** Smaller values of the type field are lengths (IEEE 802.3). */
const LOWEST_TYPE = 0x600;

/**
 * @param options `every`: packets of one worker from line to line; 0 never says anything; default
 *   1,000,000
 * @throws TwinpathError ERR_OPTION_UNKNOWN, ERR_OPTION_INVALID
 */
export function create(options: Record<string, unknown>, context: HandlerContext): Handler {
  const { every = 1_000_000, ...rest } = options;
  const [unknown] = Object.keys(rest);
  if (unknown !== undefined) {
    throw new TwinpathError('ERR_OPTION_UNKNOWN', { device: unknown, hint: "count has only 'every'." });
  }
  if (typeof every !== 'number' || !Number.isSafeInteger(every) || every < 0) {
    throw new TwinpathError('ERR_OPTION_INVALID', {
      device: 'every',
      detail: `${String(every)} is not a number of packets`,
      hint: 'Give a whole number, or 0 for silence.',
    });
  }

  // Float64: a Uint32 is full after five minutes at 14 Mpps.
  const types = new Float64Array(0x10000);
  const protocols = new Float64Array(0x100);
  let runts = 0;
  let seen = 0;
  let next = every;

  return (burst) => {
    for (let i = 0; i < burst.length; i++) {
      const packet = burst.packet(i);
      if (packet.length < ETHERNET_BYTES) {
        runts++;
        continue;
      }
      const l3 = packet.l3;
      const type = packet.u16(l3 - 2);
      types[type]!++;
      // Where the two IP headers say what they carry; one cut off before that is counted by type only.
      const at = type === EtherType.IPV4 ? l3 + 9 : type === EtherType.IPV6 ? l3 + 6 : packet.length;
      if (at < packet.length) protocols[packet.u8(at)]!++;
    }
    seen += burst.length;
    if (every === 0 || seen < next) return;
    next += every * Math.ceil((seen - next + 1) / every);
    say(`queue ${context.queue}: ${seen} packets${summary(types, protocols, runts)}\n`);
  };
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

/** A full pipe (EAGAIN) or a closed one costs the line, not the packets: this is not worth a throw. */
function say(line: string): void {
  try {
    writeSync(STDERR, line);
  } catch {}
}

function named(numbers: Record<string, number>): ReadonlyMap<number, string> {
  return new Map(Object.entries(numbers).map(([name, number]) => [number, name.toLowerCase()]));
}
