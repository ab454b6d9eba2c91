/** When the file of a capture ends and the next begins, and when the capture does: `-b` and `-a`, as in dumpcap(1). Pure. */
import { invalid, oneOf } from '../../validation.ts';

const KINDS = ['duration', 'filesize', 'packets', 'files'] as const;

/** Absent: without a limit. */
export interface Limits {
  /** Seconds. */
  readonly duration?: number;
  /** Kilobytes of 1000 bytes, as dumpcap counts. */
  readonly filesize?: number;
  readonly packets?: number;
  readonly files?: number;
}

/**
 * `duration:60`, `filesize:1000` …
 *
 * @param option names them in errors
 * @throws ERR_OPTION_INVALID
 */
export function limitsOf(option: string, texts: readonly string[]): Limits {
  const limits: Record<string, number> = {};
  for (const text of texts) {
    const [kind = '', number = ''] = text.split(':');
    const known = oneOf(option, kind as (typeof KINDS)[number], KINDS);
    if (!/^[1-9]\d{0,8}$/.test(number) || text.split(':').length !== 2)
      invalid(option, `${text} is not of the form ${known}:NUMBER`, 'The number is 1 to 999999999.');
    if (limits[known] !== undefined) invalid(option, `${known} is there twice`);
    limits[known] = Number(number);
  }
  return limits;
}

/** What is in a file, or in all. */
export interface Amount {
  readonly seconds: number;
  readonly bytes: number;
  readonly packets: number;
}

/** Whether a packet of `next` bytes no longer fits. */
export function isFull(limits: Limits, { seconds, bytes, packets }: Amount, next: number): boolean {
  return (
    seconds >= (limits.duration ?? Number.POSITIVE_INFINITY) ||
    packets >= (limits.packets ?? Number.POSITIVE_INFINITY) ||
    (packets > 0 && bytes + next > (limits.filesize ?? Number.POSITIVE_INFINITY) * 1000)
  );
}

/** The n-th file of several, from 1: `trace_00001_20260131120000.pcapng`. */
export function numbered(file: string, n: number, date: Date): string {
  const two = (value: number): string => String(value).padStart(2, '0');
  const day = `${date.getFullYear()}${two(date.getMonth() + 1)}${two(date.getDate())}`;
  const time = `${two(date.getHours())}${two(date.getMinutes())}${two(date.getSeconds())}`;
  const infix = `_${String(n).padStart(5, '0')}_${day}${time}`;
  const slash = file.lastIndexOf('/');
  const dot = file.lastIndexOf('.');
  return dot > slash + 1 ? `${file.slice(0, dot)}${infix}${file.slice(dot)}` : `${file}${infix}`;
}
