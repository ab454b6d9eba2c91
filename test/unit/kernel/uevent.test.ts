import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseUevent } from '../../../src/kernel/uevent.ts';

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

describe('a uevent', () => {
  it('of a VF that appears is read in full', () => {
    const event = parseUevent(
      bytes(
        'add@/devices/pcib067:00/b067:00:02.0/net/eth2\0ACTION=add\0DEVPATH=/devices/pcib067:00/b067:00:02.0/net/eth2\0' +
          'SUBSYSTEM=net\0INTERFACE=eth2\0IFINDEX=9\0SEQNUM=4711\0',
      ),
    )!;
    expect(event).toMatchObject({
      action: 'add',
      path: '/devices/pcib067:00/b067:00:02.0/net/eth2',
      subsystem: 'net',
    });
    expect(event.fields.IFINDEX).toBe('9');
    expect(event.fields.INTERFACE).toBe('eth2');
  });

  it('keeps an equals sign in a value and a strange field name', () => {
    const { fields } = parseUevent(bytes('change@/x\0MODALIAS=vmbus:a=b\0__proto__=1\0'))!;
    expect(fields.MODALIAS).toBe('vmbus:a=b');
    expect(Object.keys(fields)).toEqual(['MODALIAS', '__proto__']);
  });

  it('from udev, or without a sender, is ignored', () => {
    expect(parseUevent(bytes('libudev\0\u00fe\u00ed'))).toBeUndefined();
    expect(parseUevent(bytes('@/x\0'))).toBeUndefined();
    expect(parseUevent(new Uint8Array(0))).toBeUndefined();
  });

  it('made of random bytes never throws', () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), (datagram) => void parseUevent(datagram)));
  });
});
