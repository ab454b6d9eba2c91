/**
 * Makes packets circulate: sends received packets back with their MAC addresses exchanged. The first tick sends as many new
 * ones as the option says. Options: `{"packets": 256, "bytes": 60}`, in this form and order.
 */
import { context, post, take } from '../include/twinpath';

export { twinpath_abi } from '../include/twinpath';
export { burst, in_place } from '../reflect';

let packets: i32 = 0;
let bytes: i32 = 0;

export function init(): void {
  const options = context().options;
  let at = options;
  packets = numberFrom(at);
  while (load<u8>(at) != 0x2c) at++; // the comma
  bytes = numberFrom(at);
}

/** The number that follows the next colon. */
function numberFrom(start: usize): i32 {
  let at = start;
  while (load<u8>(at) != 0x3a) at++;
  let value = 0;
  for (at++; load<u8>(at) >= 0x30 && load<u8>(at) <= 0x39; at++) value = value * 10 + load<u8>(at) - 0x30;
  return value;
}

export function tick(port: i32): void {
  for (; packets > 0; packets--) {
    const frame = take();
    if (frame < 0) return;
    memory.fill(frame, 0, bytes);
    store<u8>(frame, 2);
    store<u8>(frame, 2, 6);
    store<u8>(frame, 9, 11);
    if (!post(frame, bytes)) return;
  }
}
