/** The handler of a session takes nothing from anyone. */
import { expect, it } from 'vitest';
import { compileFilter } from '../../../src/capture/filter/filter.ts';
import { PASS, TX } from '../../../src/handler/handler.ts';
import { CAPTURE_PROGRAM_WORDS } from '../../../src/memory/geometry.ts';
import { Path } from '../../../src/memory/layout.ts';
import { create } from '../../../src/pcap/sniff-handler.ts';
import { HandlerTest } from '../../../src/testing.ts';
import { ethernet, icmpEcho, ipv4, udp } from '../../support/frames.ts';

const UDP = ethernet(ipv4(udp([1]), { protocol: 17 }));
const PING = ethernet(ipv4(icmpEcho([])));

it.each([
  [Path.SYNTHETIC, PASS],
  [Path.VF, PASS],
  [Path.HOST, TX],
] as const)(
  'lets each packet of path %i go its way, and delivers a copy of what the filter takes',
  (path, way) => {
    const program = compileFilter('udp port 7');
    expect(program.length).toBeLessThanOrEqual(CAPTURE_PROGRAM_WORDS);
    const test = HandlerTest.of({ create } as never, { options: { program } });
    const outcomes = test.run([UDP, PING, UDP.slice(0, 20), []], { path });
    expect(outcomes.map(({ verdict, teed }) => [verdict, teed])).toEqual([
      [way, true],
      [way, false],
      [way, false],
      [way, false],
    ]);
    expect(outcomes.map(({ bytes }) => [...bytes])).toEqual([UDP, PING, UDP.slice(0, 20), []]);
  },
);
