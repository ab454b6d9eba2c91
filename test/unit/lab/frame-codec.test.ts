import { describe, expect, it } from 'vitest';
import { FrameCodec } from '../../../src/lab/frame-codec.ts';

const OPTIONS = {
  ...{ flows: 3, bytes: 40, firstPort: 32_768, address: '10.77.0.2', port: 7 },
  ...{ guestMac: '02:00:00:00:00:01', from: '10.77.0.1', mac: '02:15:5d:77:00:01' },
};

/** A frame as an echo would return it: addresses and ports swapped, which does not change the checksums. */
function echoed(codec: FrameCodec, flow: number, sequence: number): { view: DataView; length: number } {
  const bytes = new Uint8Array(512);
  const view = new DataView(bytes.buffer);
  const length = codec.write(bytes, view, 0, flow, sequence, 5e9);
  const swap = (a: number, b: number, count: number): void => {
    const kept = bytes.slice(a, a + count);
    bytes.copyWithin(a, b, b + count);
    bytes.set(kept, b);
  };
  swap(0, 6, 6);
  swap(26, 30, 4);
  if (flow < OPTIONS.flows) swap(34, 36, 2);
  else {
    view.setUint16(34, 0); // echo reply
    const sum = view.getUint16(36) + 0x0800;
    view.setUint16(36, (sum & 0xffff) + (sum >>> 16)); // the carry comes round: RFC 1624
  }
  return { view, length };
}

describe('a frame of the memory network', () => {
  it('is read back with its flow and number', () => {
    const codec = new FrameCodec(OPTIONS);
    for (const [flow, sequence] of [
      [0, 0],
      [2, 4_000_000_000],
      [1, 77],
    ] as const) {
      const { view, length } = echoed(codec, flow, sequence);
      expect(codec.read(view, 0, length)).toBe(flow);
      expect(codec.sequence).toBe(sequence);
    }
  });

  it('may be a ping, which has its own flow', () => {
    const codec = new FrameCodec(OPTIONS);
    const { view, length } = echoed(codec, codec.pings, 3);
    expect(codec.read(view, 0, length)).toBe(codec.pings);
    expect(codec.sequence).toBe(3);
  });

  it('is rejected if any byte of its headers or payload is damaged', () => {
    const codec = new FrameCodec(OPTIONS);
    for (const flow of [1, codec.pings]) {
      const { view, length } = echoed(codec, flow, 12);
      for (let at = 0; at < length; at++) {
        if (at >= 6 && at < 12) continue; // who sent it is nobody's business
        view.setUint8(at, view.getUint8(at) ^ 0x10);
        expect(codec.read(view, 0, length), `byte ${at} of flow ${flow}`).toBe(-1);
        view.setUint8(at, view.getUint8(at) ^ 0x10);
      }
      expect(codec.read(view, 0, length)).toBe(flow);
    }
  });

  it('is rejected if it is a request, truncated, or of another run', () => {
    const codec = new FrameCodec(OPTIONS);
    const bytes = new Uint8Array(512);
    const length = codec.write(bytes, new DataView(bytes.buffer), 0, 0, 1, 5e9);
    expect(codec.read(new DataView(bytes.buffer), 0, length)).toBe(-1);
    const back = echoed(codec, 0, 1);
    expect(codec.read(back.view, 0, 50)).toBe(-1);
    expect(codec.read(back.view, 0, 0)).toBe(-1);
    expect(new FrameCodec(OPTIONS).read(back.view, 0, back.length)).toBe(-1);
  });
});
