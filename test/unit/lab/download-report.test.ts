import { describe, expect, it } from 'vitest';
import { downloadReport, type ReceiverEnd, type SenderEnd } from '../../../src/lab/reports.ts';

const SENT: SenderEnd = { bytes: 5e9, retransmits: 7, connections: 1, error: undefined };
const RECEIVED: ReceiverEnd = {
  ...{ bytes: 5e9, nanos: 20e9, longestStall: { atNanos: 3e9, nanos: 4.5e6 } },
  ...{ wrongAt: -1, ended: true, error: undefined },
};

describe('the report of a download', () => {
  it('combines the reports of both ends', () => {
    expect(downloadReport(SENT, RECEIVED)).toEqual({
      ...{ bytes: 5e9, seconds: 20, gbitPerSecond: 2, longestStallMillis: 4.5, longestStallAtNanos: 3e9 },
      ...{ retransmits: 7, survived: true, failure: undefined },
    });
  });

  it.each([
    ['a wrong byte', {}, { wrongAt: 12 }, 'byte 12 was not the one that was sent'],
    ['a wrong byte before what came of it', {}, { wrongAt: 0, error: 'reset' }, 'byte 0 was not'],
    ['an error of the sender', { error: 'ECONNRESET' }, {}, 'ECONNRESET'],
    ['an error of the receiver', {}, { error: 'ETIMEDOUT', ended: false }, 'ETIMEDOUT'],
    ['a second connection', { connections: 2 }, {}, 'there were 2 connections'],
    ['a stream without an end', {}, { ended: false }, 'the stream broke off'],
    ['bytes that did not arrive', {}, { bytes: 4 }, '4 of 5000000000 bytes arrived'],
    ['no bytes at all', { bytes: 0 }, { bytes: 0, nanos: 0 }, 'nothing arrived'],
  ])('does not call it survived with %s', (_, sent, received, failure) => {
    const report = downloadReport({ ...SENT, ...sent }, { ...RECEIVED, ...received });
    expect(report.survived).toBe(false);
    expect(report.failure).toContain(failure);
  });
});
