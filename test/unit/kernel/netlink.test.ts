import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseLink } from '../../../src/kernel/link.ts';
import { linkEvent } from '../../../src/kernel/link-monitor.ts';
import {
  Attributes,
  MessageBuilder,
  NLM_F,
  NLMSG,
  parseAcknowledgement,
  parseMessages,
} from '../../../src/kernel/netlink.ts';
import { nexthopLinks, parseAddress, parseDefaultRoute } from '../../../src/kernel/routes.ts';
import { IFF } from '../../../src/kernel/rtnetlink.ts';
import { macBytes, normalizeMac } from '../../../src/net/mac.ts';
import { dump } from '../../support/machine.ts';

type Tree = { type: number; value: Uint8Array | Tree[] };

const { tree } = fc.letrec<{ tree: Tree[]; node: Tree }>((redirect) => ({
  node: fc.record({
    type: fc.integer({ min: 1, max: 0x3fff }),
    value: fc.oneof({ maxDepth: 3 }, fc.uint8Array({ maxLength: 40 }), redirect('tree')),
  }),
  tree: fc.array(redirect('node'), { maxLength: 5 }),
}));

function write(builder: MessageBuilder, nodes: readonly Tree[]): void {
  for (const { type, value } of nodes) {
    if (value instanceof Uint8Array) {
      builder.bytes(type, value);
    } else {
      builder.nest(type);
      write(builder, value);
      builder.end();
    }
  }
}

function readBack(attributes: Attributes, shape: readonly Tree[]): Tree[] {
  return attributes.list.map(({ type, value }, i) => {
    const nested = !(shape[i]?.value instanceof Uint8Array);
    return {
      type,
      value: nested ? readBack(new Attributes(value), shape[i]!.value as Tree[]) : value.slice(),
    };
  });
}

describe('a netlink message', () => {
  const builder = new MessageBuilder();

  it('reads back as it was built, nested attributes included', () => {
    fc.assert(
      fc.property(
        tree,
        fc.integer({ min: 16, max: 0xffff }),
        fc.uint8Array({ maxLength: 24 }),
        (nodes, type, header) => {
          write(builder.begin(type, NLM_F.REQUEST, header), nodes);
          const messages = parseMessages(builder.finish(7));
          expect(messages).toHaveLength(1);
          expect(messages[0]).toMatchObject({ type, flags: NLM_F.REQUEST, sequence: 7 });
          expect(readBack(new Attributes(messages[0]!.payload, header.length), nodes)).toEqual(nodes);
        },
      ),
    );
  });

  it('keeps numbers, strings and lists', () => {
    builder
      .begin(16, 0)
      .u8(1, 200)
      .u16(2, 65535)
      .u32(3, 0xfffffff1)
      .string(4, 'größe')
      .string(4, 'b')
      .nest(5)
      .end();
    const attributes = new Attributes(parseMessages(builder.finish(1))[0]!.payload);
    expect([attributes.u8(1), attributes.u16(2), attributes.u32(3)]).toEqual([200, 65535, 0xfffffff1]);
    expect(attributes.strings(4)).toEqual(['größe', 'b']);
    expect(attributes.nested(5).list).toEqual([]);
    expect([attributes.u32(1, 9), attributes.u32(99), attributes.string(99)]).toEqual([9, 0, '']);
  });

  it('leaves nothing of a longer message behind in a shorter one', () => {
    builder.begin(16, 0).bytes(1, new Uint8Array(2000).fill(255)).finish(1);
    const bytes = builder.begin(16, 0).u8(1, 1).finish(2);
    expect([...bytes.subarray(16)]).toEqual([5, 0, 1, 0, 1, 0, 0, 0]);
  });

  it('is refused while a nest is open', () => {
    expect(() => builder.begin(16, 0).nest(1).finish(1)).toThrow(RangeError);
    expect(() => builder.begin(16, 0).end()).toThrow(RangeError);
    expect(() => builder.begin(16, 0).bytes(1, new Uint8Array(65533))).toThrow(RangeError);
  });
});

describe('the reader', () => {
  const consume = (bytes: Uint8Array): void => {
    for (const message of parseMessages(bytes)) {
      parseAcknowledgement(message);
      linkEvent({ ...message, type: 16 });
      parseAddress(message.payload);
      parseDefaultRoute(message.payload);
      nexthopLinks(1, [message]);
    }
    parseLink(bytes);
    parseAddress(bytes);
    parseDefaultRoute(bytes);
  };

  it('neither throws nor loops on random bytes', () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 300 }), consume), { numRuns: 1000 });
  });

  it('neither throws nor loops on a real message with bytes cut off or changed', () => {
    const real = dump('links')[2]!.payload;
    const change = fc.tuple(fc.nat(real.length - 1), fc.nat(255));
    fc.assert(
      fc.property(fc.nat(real.length), fc.array(change, { maxLength: 8 }), (length, changes) => {
        const bytes = real.slice(0, length);
        for (const [at, value] of changes) if (at < length) bytes[at] = value;
        consume(bytes);
      }),
      { numRuns: 500 },
    );
  });

  it('stops at a length that is larger than the datagram, 2^32 - 1 included', () => {
    const bytes = new Uint8Array(40);
    new DataView(bytes.buffer).setUint32(0, 16, true);
    new DataView(bytes.buffer).setUint32(16, 0xffffffff, true);
    expect(parseMessages(bytes)).toHaveLength(1);
  });

  it('finds the explanation in an error, whether the kernel repeats the request or caps it', () => {
    const text = new MessageBuilder()
      .begin(0, 0)
      .string(1, 'mtu less than device minimum')
      .finish(0)
      .slice(16);
    const error = (request: Uint8Array, flags: number): Uint8Array => {
      const payload = new Uint8Array(4 + request.length + text.length);
      new DataView(payload.buffer).setInt32(0, -22, true);
      payload.set(request, 4);
      payload.set(text, 4 + request.length);
      return new MessageBuilder().begin(NLMSG.ERROR, flags, payload).finish(1);
    };
    const request = new MessageBuilder().begin(19, 5).u32(4, 1).finish(1).slice();
    const whole = parseMessages(error(request, NLM_F.ACK_TLVS))[0]!;
    const capped = parseMessages(error(request.slice(0, 16), NLM_F.ACK_TLVS | NLM_F.CAPPED))[0]!;
    const expected = { error: -22, text: 'mtu less than device minimum' };
    expect(parseAcknowledgement(whole)).toEqual(expected);
    expect(parseAcknowledgement(capped)).toEqual(expected);
    expect(parseAcknowledgement({ ...capped, flags: 0 })).toEqual({ error: -22, text: '' });
  });
});

describe('a dump recorded from the kernel', () => {
  const links = dump('links').map(({ payload }) => parseLink(payload)!);
  const byName = (name: string) => links.find((link) => link.name === name)!;

  it('decodes into links', () => {
    expect(links.map(({ name, kind }) => `${name}:${kind}`)).toEqual(
      expect.arrayContaining(['lo:', 'veth0:veth', 'far0:veth', 'br0:bridge', 'syn0:veth', 'vf0:veth']),
    );
    const veth = byName('veth0');
    expect(veth).toMatchObject({
      type: 1,
      mtu: 1500,
      address: '00:0d:3a:00:00:01',
      peer: byName('far0').ifindex,
      numRxQueues: 4,
      numTxQueues: 4,
      carrier: true,
      operstate: 6,
      promiscuity: 1,
      parentBus: '',
      xdpProgram: 0,
    });
    expect(veth.flags & (IFF.UP | IFF.RUNNING | IFF.LOWER_UP)).toBe(IFF.UP | IFF.RUNNING | IFF.LOWER_UP);
    expect(veth.statistics).toBeDefined();
    expect(byName('vf0')).toMatchObject({
      master: byName('br0').ifindex,
      altNames: ['enP1s2-a-long-alternative-name'],
    });
    expect(byName('syn0')).toMatchObject({ carrier: false });
    expect(byName('lo')).toMatchObject({ type: 772, address: '00:00:00:00:00:00' });
  });

  it('decodes into addresses of both families', () => {
    const addresses = dump('addresses').map(({ payload }) => parseAddress(payload)!);
    const on = byName('br0').ifindex;
    expect(addresses).toContainEqual({ ifindex: on, family: 2, address: '10.9.8.7', scope: 0 });
    expect(addresses).toContainEqual({
      ifindex: byName('lo').ifindex,
      family: 10,
      address: '::1',
      scope: 254,
    });
  });

  it('names the links of a multipath default route, and no other route', () => {
    const routes = dump('routes').map(({ payload }) => parseDefaultRoute(payload));
    const defaults = routes.filter((route) => route !== undefined);
    const on = byName('br0').ifindex;
    expect(defaults).toEqual([{ links: [on, on], nexthop: 0 }]);
  });

  it('leaves out what bridge ports say in a family of their own', () => {
    const message = dump('links')[0]!;
    const payload = message.payload.slice();
    payload[0] = 7;
    expect(linkEvent({ ...message, type: 17, payload })).toBeUndefined();
    expect(linkEvent({ ...message, type: 17 })).toMatchObject({ kind: 'delete', link: { name: 'lo' } });
  });
});

describe('a default route through a nexthop object', () => {
  it('leads to the links of its group', () => {
    const builder = new MessageBuilder();
    const nexthop = (id: number, build: (b: MessageBuilder) => void) => {
      build(builder.begin(104, 0, new Uint8Array(8)).u32(1, id));
      return { ...parseMessages(builder.finish(1))[0]!, payload: builder.finish(1).slice(16) };
    };
    const group = new Uint8Array(16);
    group[0] = 11;
    group[8] = 12;
    const table = [
      nexthop(11, (b) => b.u32(5, 3)),
      nexthop(12, (b) => b.u32(5, 4)),
      nexthop(13, (b) => b.bytes(2, group)),
    ];
    expect(nexthopLinks(13, table)).toEqual([3, 4]);
    expect(nexthopLinks(12, table)).toEqual([4]);
    expect(nexthopLinks(99, table)).toEqual([]);
  });
});

describe('a MAC address', () => {
  it('is taken with dashes or colons, in either case, and nothing else is', () => {
    expect(normalizeMac('00-0D-3A-aa-BB-cc')).toBe('00:0d:3a:aa:bb:cc');
    expect(['eth0', '00:0d:3a:aa:bb', '00:0d:3a:aa:bb:cg', '000d3aaabbcc', ''].map(normalizeMac)).toEqual(
      Array(5).fill(undefined),
    );
    expect([...macBytes('00:0d:3a:aa:bb:cc')]).toEqual([0, 13, 58, 170, 187, 204]);
  });
});
