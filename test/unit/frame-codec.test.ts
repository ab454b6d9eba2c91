import { describe, expect, it } from 'vitest';
import { FrameCodec } from '../../src/lab/frame-codec.ts';

const OPTIONS = {
  ...{ flows: 3, bytes: 40, firstPort: 32_768, address: '10.77.0.2', port: 7 },
  ...{ guestMac: '02:00:00:00:00:01', from: '10.77.0.1', mac: '02:15:5d:77:00:01' },
};

/** A frame as an echo would send it back, by hand: addresses and ports exchanged, sums unchanged by that. */
function echoed(form: FrameCodec, flow: number, sequence: number): { view: DataView; length: number } {
  const bytes = new Uint8Array(512);
  const view = new DataView(bytes.buffer);
  const length = form.write(bytes, view, 0, flow, sequence, 5e9);
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
  it('is known again when it comes back, by flow and number', () => {
    const form = new FrameCodec(OPTIONS);
    for (const [flow, sequence] of [
      [0, 0],
      [2, 4_000_000_000],
      [1, 77],
    ] as const) {
      const { view, length } = echoed(form, flow, sequence);
      expect(form.read(view, 0, length)).toBe(flow);
      expect(form.sequence).toBe(sequence);
    }
  });

  it('may be a ping, which is a flow of its own', () => {
    const form = new FrameCodec(OPTIONS);
    const { view, length } = echoed(form, form.pings, 3);
    expect(form.read(view, 0, length)).toBe(form.pings);
    expect(form.sequence).toBe(3);
  });

  it('is not accepted with any byte of its headers or payload damaged', () => {
    const form = new FrameCodec(OPTIONS);
    for (const flow of [1, form.pings]) {
      const { view, length } = echoed(form, flow, 12);
      for (let at = 0; at < length; at++) {
        if (at >= 6 && at < 12) continue; // who sent it is nobody's business
        view.setUint8(at, view.getUint8(at) ^ 0x10);
        expect(form.read(view, 0, length), `byte ${at} of flow ${flow}`).toBe(-1);
        view.setUint8(at, view.getUint8(at) ^ 0x10);
      }
      expect(form.read(view, 0, length)).toBe(flow);
    }
  });

  it('is not accepted when it is its own request, cut short, or of another run', () => {
    const form = new FrameCodec(OPTIONS);
    const bytes = new Uint8Array(512);
    const length = form.write(bytes, new DataView(bytes.buffer), 0, 0, 1, 5e9);
    expect(form.read(new DataView(bytes.buffer), 0, length)).toBe(-1);
    const back = echoed(form, 0, 1);
    expect(form.read(back.view, 0, 50)).toBe(-1);
    expect(form.read(back.view, 0, 0)).toBe(-1);
    expect(new FrameCodec(OPTIONS).read(back.view, 0, back.length)).toBe(-1);
  });
});
