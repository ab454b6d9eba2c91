/** What a handler decides for a packet, in XDP's vocabulary. The numbers are part of the WASM ABI. */

/** Give the frame back. The default: a packet nobody decided about goes nowhere. */
export const DROP = 0;
/** Send it out of the port it came from, by whichever path owns the queue. */
export const TX = 1;
/** Send it out of the port whose number is in `burst.target[i]`. */
export const FORWARD = 2;
/** Give it to the machine's own network stack, as if the NetVSC had received it. */
export const PASS = 3;
/** Copy it to the application's thread, which reads it from `port.packets()`. */
export const DELIVER = 4;

export type Verdict = typeof DROP | typeof TX | typeof FORWARD | typeof PASS | typeof DELIVER;

/** The verdict of a packet whose handler threw. Not a handler's to give. */
export const FAILED = 255;
