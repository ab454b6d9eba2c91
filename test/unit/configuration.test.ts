/** The configuration of a port: what may be asked for, and what remains of several changes. */
import { describe, expect, it } from 'vitest';
import {
  type CheckedChange,
  type ConfigurationChange,
  changed,
  checkChange,
  initial,
} from '../../src/configuration.ts';

const check = (change: object): CheckedChange => checkChange(change as ConfigurationChange, 2048, 3);

describe('a change of the configuration', () => {
  it('is taken in any spelling, each address once, and names only what it changes', () => {
    expect(check({})).toEqual({});
    expect(check({ mac: '02-00-00-00-00-0A', unicast: ['02:00:00:00:00:07', '02:00:00:00:00:07'] })).toEqual({
      ...{ mac: '02:00:00:00:00:0a', unicast: ['02:00:00:00:00:07'] },
    });
    expect(check({ mtu: null, multicast: ['01:00:5E:00:00:FB'] })).toEqual({
      ...{ mtu: null, multicast: ['01:00:5e:00:00:fb'] },
    });
  });

  it.each([
    ['a number below every MTU', { mtu: 67 }, /68 to 1765/],
    ['an MTU that larger frames would hold', { mtu: 1766 }, /frameSize: 4096/],
    ['an MTU that the largest frames would hold', { mtu: 9000 }, /frameSize: 16384/],
    ['an MTU that no frame holds', { mtu: 9000 }, /68 to 1765/],
    ['a broken MTU', { mtu: 1500.5 }, /not 1500\.5/],
    ['text for an MTU', { mtu: '1500' }, /not 1500/],
    ['a group address of its own', { mac: '01:00:5e:00:00:fb' }, /multicast address/],
    ['no address', { mac: '00:00:00:00:00:00' }, /no device's address/],
    ['half an address', { mac: '02:00:00' }, /not a MAC address/],
    ['a multicast address among the others', { unicast: ['33:33:00:00:00:01'] }, /multicast address/],
    ['a unicast address among the groups', { multicast: ['02:00:00:00:00:07'] }, /unicast address/],
    ['no list', { unicast: '02:00:00:00:00:07' }, /must be a list/],
    ['a list too long', { unicast: Array.from({ length: 129 }, (_, i) => address(i)) }, /128 is the most/],
    ['a word for yes', { promiscuous: 'yes' }, /true or false/],
    ['a number for yes', { macFilter: 1 }, /true or false/],
    ['an unknown name', { promisc: true }, /Did you mean "promiscuous"/],
    ['no object', 7, /must be an object/],
    ['a short key', { rss: { key: 'ab' } }, /it has 1 bytes/],
    ['a table of a wrong size', { rss: { table: [0, 1, 2] } }, /128 queue numbers, or a power of two/],
    ['no table', { rss: { table: [] } }, /128 queue numbers/],
    ['a queue too many in a table', { rss: { table: [0, 3] } }, /no queue 3: they are numbered from 0 to 2/],
    ['a hole in a table', { rss: { table: [0, undefined] } }, /no queue undefined/],
    ['an unknown hash type', { rss: { hashTypes: ['udp4', 'sctp4'] } }, /sctp4 is none of ipv4, tcp4/],
    ['an unknown part of RSS', { rss: { keys: 'default' } }, /Did you mean "key"/],
    ['RSS that is a word', { rss: 'symmetric' }, /must be an object/],
    ['no queue', { queues: [] }, /none is left/],
    ['a queue too many', { queues: [0, 3] }, /no queue 3/],
    ['an unknown mode', { mode: 'sleepy' }, /poll, adaptive, interrupt/],
    ['a word for started', { started: 'no' }, /true or false/],
  ])('is refused with the reason: %s', (_, change, message) => {
    expect(() => check(change as object)).toThrow(message);
  });

  it('has the RSS key as digits, the table whole, and queues in order', () => {
    expect(check({ rss: { key: 'symmetric', table: [2, 0] }, queues: [2, 0, 2], mode: null })).toEqual({
      rss: { key: '6d5a'.repeat(20), table: Array.from({ length: 128 }, (_, i) => (i % 2 === 0 ? 2 : 0)) },
      queues: [0, 2],
      mode: null,
    });
    expect(check({ rss: { hashTypes: ['udp4', 'ipv4', 'udp4'] } })).toEqual({
      rss: { hashTypes: ['ipv4', 'udp4'] },
    });
    expect(check({ rss: null })).toEqual({ rss: { key: null, table: null, hashTypes: null } });
    expect(check({ rss: { key: Uint8Array.from({ length: 52 }, (_, i) => i) } }).rss!.key).toHaveLength(104);
  });

  it('leaves the rest as it was, and counts', () => {
    const first = initial({ mtu: 1400 });
    expect(initial({}).generation).toBe(0);
    expect(first).toMatchObject({ generation: 1, mtu: 1400, promiscuous: false });
    expect(changed(first, { promiscuous: true })).toEqual({ ...first, generation: 2, promiscuous: true });
  });
});

const address = (i: number): string =>
  `02:00:00:00:${(i >> 8).toString(16).padStart(2, '0')}:${(i & 255).toString(16).padStart(2, '0')}`;
