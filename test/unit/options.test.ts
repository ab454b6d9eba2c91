import { describe, expect, test } from 'vitest';
import { TwinpathError } from '../../src/errors.ts';
import { layOut } from '../../src/memory/geometry.ts';
import type { OpenPortOptions, OpenPortsOptions } from '../../src/options.ts';
import { geometryOf, single, validate } from '../../src/settings.ts';
import { nearest } from '../../src/validation.ts';

const good: OpenPortOptions = { handler: '/tmp/handler.js' };

function refusal(options: Record<string, unknown>): TwinpathError {
  try {
    validate(single({ ...good, ...options } as OpenPortOptions));
  } catch (error) {
    if (error instanceof TwinpathError) return error;
    throw error;
  }
  throw new Error('the options were accepted');
}

describe('options', () => {
  test.each([
    ['forwardTo', { forwardTo: 7 }, /a list of ports/],
    ['forwardTo', { forwardTo: [{}] }, /a list of open ports/],
    ['forwardTo', { forwardTo: [{ route: {} }] }, /a list of open ports/],
    ['handlerOptions', { handlerOptions: { call: () => {} } }, /structured clone/],
    ['rssKey', { rssKey: 'short' }, /rssKey/],
    ['metadata', { metadata: ['colour'] }, /metadata/],
    ['metadata', { metadata: 'rule' }, /metadata: it must be a list/],
    ['host', { host: 'in-line' }, /Did you mean "inline"/],
    ['stuckMillis', { stuckMillis: 5 }, /100 to 60000/],
    ['loadMillis', { loadMillis: 0 }, /100 to 600000/],
  ])('refuse a %s that cannot be meant: %j', (_option, options, text) => {
    expect(refusal(options)).toMatchObject({ code: 'ERR_OPTION_INVALID' });
    expect(refusal(options).message).toMatch(text);
  });

  test('are complete after validation', () => {
    const settings = validate(single(good));
    expect(settings).toMatchObject({
      handlers: [{ url: 'file:///tmp/handler.js', options: {} }],
      handlerOf: [0],
      mode: 'adaptive',
      frameSize: 2048,
      frames: 8192,
      pin: false,
      tap: 'io_uring',
      redirect: 'tcx',
      network: 'kernel',
    });
    expect(settings.queues).toBeGreaterThanOrEqual(1);
    const unnamed = { device: undefined, netvsc: undefined, mac: undefined, vf: undefined, force: undefined };
    expect(settings.ports).toEqual([unnamed]);
  });

  test.each([
    [{}, /network.pcap: it must be a non-empty string/],
    [{ pcap: '' }, /network.pcap/],
    [{ pcap: new URL('https://example.invalid/a.pcap') }, /network.pcap: it must be a path or a file URL/],
    [{ pcap: 'a', out: 7 }, /network.out/],
    [{ pcap: 'a', speed: 0 }, /network.speed: it must be 'full' or a number above 0/],
    [{ pcap: 'a', speed: 'slow' }, /network.speed/],
    [{ pcap: 'a', speed: Number.NaN }, /network.speed/],
    [{ pcap: 'a', times: 0 }, /network.times/],
    [{ pcap: 'a', mac: 'x' }, /network.mac: x is not a MAC address/],
    [{ pcap: 'a', mac: '03:00:00:00:00:01' }, /network.mac: .* of a group/],
    [{ pcap: 'a', tiems: 2 }, /Did you mean "times"/],
  ])('of a file as network are refused: %j', (network, text) => {
    expect(refusal({ network }).message).toMatch(text);
  });

  test('of a file as network are complete after validation', () => {
    const file = new URL('file:///tmp/in.pcap');
    const { network, replay, control } = validate(
      single({ ...good, network: { pcap: file, mac: '02-00-00-00-00-AA' } }),
    );
    expect({ network, control }).toEqual({ network: 'memory', control: false });
    const rest = { out: undefined, speed: 0, times: 1, mac: '02:00:00:00:00:aa' };
    expect(replay).toEqual({ file: '/tmp/in.pcap', ...rest });
    expect(validate(single({ ...good, network: { pcap: 'in', speed: 0.5 } })).replay).toMatchObject({
      speed: 0.5,
    });
  });

  test.each([{ netvsc: 'eth0' }, { mac: '00:0d:3a:12:34:56' }, { vf: 'vf0' }, { force: true }])(
    'a device beside %j is refused by name, and each alone is not',
    (other) => {
      const error = refusal({ device: 'ens5', ...other });
      expect(error).toMatchObject({ code: 'ERR_OPTION_INVALID', device: 'device' });
      expect(error.message).toContain(Object.keys(other)[0]);
      for (const options of [other, { device: 'ens5' }, { device: 'ens5', force: false }]) {
        expect(validate(single({ ...good, ...options })).ports[0]).toMatchObject(options);
      }
    },
  );

  test('that are unknown are refused with the nearest known one', () => {
    const error = refusal({ qeues: 2 });
    expect(error.code).toBe('ERR_OPTION_UNKNOWN');
    expect(error.message).toContain('qeues');
    expect(error.message).toContain('Did you mean "queues"?');
  });

  test('that are far from any known one name all of them', () => {
    expect(refusal({ zzzzzzzzzzzz: 1 }).message).toContain('handlerOptions');
  });

  test('of a port inside openPorts are checked as well', () => {
    expect(() => validate({ ...good, ports: [{ netvcs: 'eth0' } as never] })).toThrow(
      'Did you mean "netvsc"?',
    );
  });

  test.each([
    ['queues', 0],
    ['queues', 65],
    ['queues', 1.5],
    ['queues', '2'],
    ['mode', 'adaptiv'],
    ['frameSize', 1024],
    ['frameSize', 8192],
    ['frames', 1000],
    ['pin', 'yes'],
    ['netns', ''],
    ['netvsc', 7],
    ['device', 7],
    ['force', 1],
    ['tap', 'uring'],
    ['redirect', 'tc'],
    ['network', 'pcap'],
    ['signal', {}],
    ['handlerOptions', []],
    ['handler', 'handler.js'],
    ['handler', undefined],
    ['handler', 'https://example.invalid/handler.js'],
  ])('%s: %j is refused by name', (option, value) => {
    const error = refusal({ [option]: value });
    expect(error.code).toBe('ERR_OPTION_INVALID');
    expect(error.message).toContain(option);
  });

  test('with a near miss of a value name the value', () => {
    expect(refusal({ mode: 'adaptiv' }).message).toContain('Did you mean "adaptive"?');
  });

  test('that would need more frames than a buffer id can name are refused', () => {
    const ports = Array.from({ length: 2 }, () => ({}));
    expect(() => validate({ ...good, ports, frames: 65536 })).toThrow('65536');
  });

  test('that need more memory than offsets reach are refused, and the error names what to lower', () => {
    let refused = 0;
    for (const pageSize of [4096, 65536]) {
      for (let ports = 1; ports <= 16; ports++) {
        for (const queues of [1, 2, 8, 31, 38, 48, 60, 63, 64]) {
          for (const frames of [4096, 8192, 65536].filter((each) => each * ports <= 65536)) {
            const wanted = {
              ports: Array.from({ length: ports }, () => ({})),
              queues,
              frameSize: 2048,
              frames,
            };
            try {
              expect(layOut(geometryOf(wanted, pageSize)).bytes).toBeLessThan(2 ** 31);
            } catch (error) {
              if (!(error instanceof TwinpathError)) throw error;
              refused++;
              expect(error).toMatchObject({ code: 'ERR_OPTION_INVALID' });
              expect(error.message).toContain(frames > 4096 ? 'fewer frames' : 'fewer queues');
            }
          }
        }
      }
    }
    expect(refused).toBeGreaterThan(0);
  });

  test('want between one and sixteen ports', () => {
    expect(() => validate({ ...good, ports: [] })).toThrow('1 to 16');
    expect(() => validate({ ...good, ports: Array.from({ length: 17 }, () => ({})) })).toThrow('1 to 16');
  });
});

describe('the nearest word', () => {
  test.each([
    ['refelct', ['reflect', 'echo'], 'reflect'],
    ['eth', ['wlan0', 'eth1', 'eth0'], 'eth1'],
    ['secs', ['json', 'queues', 'seconds'], 'seconds'],
    ['sec', ['json', 'seconds'], 'seconds'],
    ['stuck', ['tap', 'stuck-millis', 'stack'], 'stuck-millis'],
    ['rnu', ['demo', 'run'], 'run'],
    ['QUEUE', ['queues'], 'queues'],
  ])('to %s of %j is %s', (wanted, candidates, near) => {
    expect(nearest(wanted, candidates)).toBe(near);
  });

  test.each([
    ['xyzzy', ['reflect', 'echo']],
    ['zzz', ['lo', 'eth0']],
    ['zz', ['lo']],
    ['x', ['vf', 'mac']],
    ['', ['a', 'ab']],
    ['abc', []],
    ['s'.repeat(100_000), ['seconds']],
  ])('to %.20s is none of %j', (wanted, candidates) => {
    expect(nearest(wanted, candidates)).toBeUndefined();
  });
});

const refused = (options: object): TwinpathError => {
  try {
    validate(options as OpenPortsOptions);
  } catch (error) {
    if (error instanceof TwinpathError) return error;
    throw error;
  }
  throw new Error('the options were accepted');
};

describe('the handlers of several ports', () => {
  const url = (name: string): string => `file:///tmp/${name}.js`;
  test('are the shared one, and that of each port which has its own module or options', () => {
    const { handlers, handlerOf } = validate({
      handler: '/tmp/shared.js',
      handlerOptions: { a: 1 },
      ports: [
        { netvsc: 'eth1' },
        { netvsc: 'eth2', handler: '/tmp/own.js' },
        { netvsc: 'eth3', handlerOptions: { a: 2 } },
        { netvsc: 'eth4' },
        { netvsc: 'eth5', handler: '/tmp/own.js', handlerOptions: { b: 3 } },
      ],
    });
    expect(handlerOf.map((index) => handlers[index])).toMatchObject([
      { url: url('shared'), options: { a: 1 } },
      { url: url('own'), options: {} },
      { url: url('shared'), options: { a: 2 } },
      { url: url('shared'), options: { a: 1 } },
      { url: url('own'), options: { b: 3 } },
    ]);
    expect(handlers).toHaveLength(4);
  });

  test.each([
    ['a port without any', { ports: [{ handler: '/tmp/own.js' }, {}] }, 'handler', /every port needs one/],
    [
      'a shared one that no port would have',
      { handler: '/tmp/shared.js', ports: [{ handler: '/tmp/own.js' }] },
      ...(['handler', /of its own/] as const),
    ],
    [
      'shared options that no port would have',
      { handler: '/tmp/shared.js', handlerOptions: {}, ports: [{ handlerOptions: {} }] },
      ...(['handlerOptions', /of its own/] as const),
    ],
    [
      'options of a port that cannot be cloned',
      { handler: '/tmp/shared.js', ports: [{ handlerOptions: { call: () => {} } }] },
      ...(['handlerOptions', /structured clone/] as const),
    ],
  ])('are refused with %s', (_, options, device, words) => {
    expect(refused(options)).toMatchObject({ code: 'ERR_OPTION_INVALID', device });
    expect(refused(options).message).toMatch(words);
  });
});

describe('the devices of several ports', () => {
  test.each([
    [[{ netvsc: 'eth1' }, { netvsc: 'eth2' }, { netvsc: 'eth1' }], 'ports[2]', /eth1, as ports\[0\] does/],
    [[{ device: 'eth1' }, { vf: 'eth1' }], 'ports[1]', /eth1, as ports\[0\] does/],
  ])('may not be named twice: %j', (ports, device, words) => {
    expect(refused({ ...good, ports })).toMatchObject({ code: 'ERR_OPTION_INVALID', device });
    expect(refused({ ...good, ports }).message).toMatch(words);
  });

  test('may be named twice by one port', () => {
    const mac = '00:0d:3a:12:34:56';
    expect(validate({ ...good, ports: [{ netvsc: mac, mac }, {}] }).ports).toHaveLength(2);
  });

  test.each([
    ['eth1', /a list/],
    [[7], /ignore/],
    [[''], /ignore/],
    [['eth1', 'eth2', 'eth1'], /eth1 is there twice/],
    [['eth0'], /eth0 is to be ignored, and a port is to take it/],
  ])('cannot be ignored as %j', (ignore, words) => {
    const error = refused({ ...good, ignore, ports: [{ netvsc: 'eth0' }] });
    expect(error).toMatchObject({ code: 'ERR_OPTION_INVALID', device: 'ignore' });
    expect(error.message).toMatch(words);
  });
});
