/** Whole frames, VLAN tags included, in a test. */
import { onTestFinished } from 'vitest';
import { RawSocket } from '../../src/lab/raw-socket.ts';

/** On a device of the namespace, until the test is over: see `RawSocket.open`. */
export function rawSocket(namespace: string, device: string, etherType?: number): RawSocket {
  const socket = RawSocket.open(namespace, device, etherType);
  onTestFinished(() => socket.close());
  return socket;
}

/** An Ethernet frame: MAC addresses, then what is given as hexadecimal digits, then text. */
export function frame(to: string, from: string, tagsAndType: string, text: string): Buffer {
  const head = [to, from].map((mac) => Buffer.from(mac.replaceAll(':', ''), 'hex'));
  return Buffer.concat([
    ...head,
    Buffer.from(tagsAndType.replaceAll(' ', ''), 'hex'),
    Buffer.from(text.padEnd(50)),
  ]);
}
