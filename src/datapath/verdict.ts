/** What a handler decides for a packet, in XDP's vocabulary. */

/** Give the frame back. The default: a packet nobody decided about goes nowhere. */
export const DROP = 0;
/** Send it out of the port it came from, by whichever path owns the queue. */
export const TX = 1;

export type Verdict = typeof DROP | typeof TX;
