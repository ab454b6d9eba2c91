/**
 * What a handler may decide about packets as long as jumbo frames hold.
 *
 * @module-tag unprivileged
 */
import { describe, expect, it } from 'vitest';
import { until } from '../support/harness.ts';
import { VerdictNetwork } from '../support/verdict-network.ts';
import { ledgers, openVerdictPorts as open } from '../support/verdict-ports.ts';

const [TX, FORWARD, DELIVER] = [1, 2, 4];

describe('jumbo frames', () => {
  it('are forwarded within a memory and to another, sent and delivered, with every byte', async () => {
    const jumbo = { queues: 1, frameSize: 16_384, frames: 4096 } as const;
    const [other] = await open(1, jumbo);
    const [from, to] = await open(2, { ...jumbo, forwardTo: [other!] });
    const network = new VerdictNetwork([[from!, to!], [other!]]);
    const { memory, peer } = network.peer(0);
    const lengths = [1514, 4096, 9018, 16_128];
    const sum = (bytes: Uint8Array): number =>
      bytes.reduce((all, byte, i) => (all + byte * (i + 1)) % 65_521, 0);
    const sent = new Map<string, number>();
    for (const [place, verdict, target] of [
      ['0', TX, 0],
      ['1', FORWARD, 1],
      ['2', FORWARD, 2],
      ['application', DELIVER, 0],
    ] as const) {
      for (const length of lengths) {
        peer.deliver(1, (at) => {
          for (let i = 0; i < length; i++) memory.bytes[at + i] = (i * 7 + verdict + target) & 255;
          memory.bytes.set([verdict, target], at + 46);
          sent.set(`${place}: ${length}`, sum(memory.bytes.subarray(at, at + length)));
          return length;
        });
      }
    }
    const out = new Map<string, number>();
    const reading = (async () => {
      for await (const { data } of from!.packets()) out.set(`application: ${data.length}`, sum(data));
    })();
    await until('all of them', () => {
      for (const port of [0, 1, 2]) {
        const there = network.peer(port);
        there.peer.collect(8, (at, length) => {
          out.set(`${port}: ${length}`, sum(there.memory.bytes.subarray(at, at + length)));
        });
      }
      return out.size === sent.size;
    });
    expect(new Map([...out].sort())).toEqual(new Map([...sent].sort()));
    await ledgers([from!, to!]);
    await ledgers([other!]);
    await from!.close();
    await reading;
  });
});
