/**
 * Numbered UDP in a VLAN, from the outside host to the guest and back, as whole frames: a kernel without 802.1Q can send them.
 * Runs in the namespace of the outside host, as a child of rig.mjs. Prints its ledger when it is told to stop.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { FrameCodec } from '../../dist/src/lab/frame-codec.js';
import { RawSocket } from '../../dist/src/lab/raw-socket.js';

const TAG = Buffer.from('81006007', 'hex'); // priority 3, VLAN 7
const ADDRESSES = 12;
const FLOWS = 8;
/** With the tag it is the longest frame that an Ethernet of 1500 bytes carries. */
const BYTES = 1472;
const PAUSE_MILLIS = 5;
/** No answer for so long is none. */
const SETTLE_MILLIS = 20_000;

const codec = new FrameCodec({
  flows: FLOWS,
  bytes: BYTES,
  firstPort: 40_000,
  address: '10.77.0.2',
  port: 7,
  guestMac: process.env.MAC,
  from: '10.77.0.1',
  mac: '02:00:00:00:00:99',
});
const socket = RawSocket.open('/proc/self/ns/net', 'out0');
const seen = new Set();
const ledger = { sent: 0, received: 0, duplicated: 0, reordered: 0, untagged: 0 };
const last = new Int32Array(FLOWS).fill(-1);
let stopping = false;

function send() {
  const frame = Buffer.alloc(2048);
  const view = new DataView(frame.buffer, frame.byteOffset);
  const [flow, sequence] = [ledger.sent % FLOWS, Math.floor(ledger.sent / FLOWS)];
  const length = codec.write(frame, view, 0, flow, sequence, Number(process.hrtime.bigint()));
  socket.send(Buffer.concat([frame.subarray(0, ADDRESSES), TAG, frame.subarray(ADDRESSES, length)]));
  ledger.sent++;
}

function receive() {
  for (const frame of socket.received()) {
    const tagged = frame.subarray(ADDRESSES, ADDRESSES + TAG.length).equals(TAG);
    const plain = tagged
      ? Buffer.concat([frame.subarray(0, ADDRESSES), frame.subarray(ADDRESSES + TAG.length)])
      : frame;
    const flow = codec.read(new DataView(plain.buffer, plain.byteOffset, plain.length), 0, plain.length);
    if (flow < 0) continue;
    const name = codec.sequence * FLOWS + flow;
    if (seen.has(name)) ledger.duplicated++;
    else ledger.received++;
    seen.add(name);
    if (!tagged) ledger.untagged++;
    if (codec.sequence < last[flow]) ledger.reordered++;
    else last[flow] = codec.sequence;
  }
}

process.on('message', (order) => {
  if (order === 'look') process.send({ received: ledger.received });
  else stopping = true;
});
process.on('disconnect', () => process.exit());
process.send('ready');

while (!stopping) {
  send();
  await sleep(PAUSE_MILLIS);
  receive();
}
let before = -1;
while (before < ledger.received && ledger.received < ledger.sent) {
  before = ledger.received;
  await sleep(SETTLE_MILLIS);
  receive();
}
socket.close();
const { untagged, ...packets } = ledger;
const none = { sent: 0, received: 0, lost: 0, duplicated: 0, reordered: 0 };
process.send({ packets: { ...packets, lost: packets.sent - packets.received }, icmp: none, untagged }, () =>
  process.exit(),
);
