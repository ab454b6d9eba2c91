/** `run --network pcap:FILE`: a capture file in place of devices. */
import type { PcapNetwork } from '../options.ts';
import type { Port } from '../port.ts';
import type { ReplayReport } from '../replay/replay.ts';
import { invalid } from '../validation.ts';
import { type Arguments, text } from './arguments.ts';
import { count } from './port-report.ts';

const KIND = 'pcap:';
/** The names that may follow the file. A comma before anything else is one of the file's name. */
const SETTING = /,(out|speed|times|mac)=/;
const EXAMPLE = 'Write --network pcap:FILE, and behind it if you want ,out=FILE ,speed=N ,times=N ,mac=MAC.';
/** Options that name devices. */
const DEVICES = ['device', 'all', 'ignore', 'netvsc', 'mac', 'vf', 'no-vf', 'force', 'netns'];

/** The network of the ports; undefined: devices. @throws ERR_OPTION_INVALID */
export function networkOf(args: Arguments): PcapNetwork | undefined {
  const given = text(args, 'network');
  if (given === undefined) return undefined;
  if (!given.startsWith(KIND)) return invalid('--network', `${given} is no network`, EXAMPLE);
  const other = DEVICES.find((name) => args.flags.has(name) || args.texts.has(name));
  if (other !== undefined)
    invalid('--network', `it contradicts --${other}: a file takes the place of devices`);
  const [file = '', ...rest] = given.slice(KIND.length).split(SETTING);
  const settings: Record<string, string> = {};
  for (let i = 0; i < rest.length; i += 2) {
    const name = rest[i]!;
    if (name in settings) invalid('--network', `${name} is there twice`);
    settings[name] = rest[i + 1]!;
  }
  if (file === '') invalid('--network', 'it names no file', EXAMPLE);
  const { out, speed, times, mac } = settings;
  return {
    pcap: file,
    out,
    speed: speed === undefined || speed === 'full' ? speed : Number(speed),
    times: times === undefined ? undefined : Number(times),
    mac,
  };
}

/** Resolves with what `use` resolves with: it is told when the file is through. @throws what a replay throws */
export async function untilReplayed(
  port: Port,
  use: (through: AbortSignal) => Promise<void>,
): Promise<ReplayReport | undefined> {
  const through = new AbortController();
  let report: ReplayReport | undefined;
  let failure: unknown;
  const replayed = port
    .replayed()
    .then((whole) => {
      report = whole;
    })
    .catch((error: unknown) => {
      failure = error;
    })
    .finally(() => through.abort());
  await use(through.signal);
  if (!through.signal.aborted) return undefined; // interrupted
  await replayed;
  if (failure !== undefined) throw failure;
  return report;
}

/** What was replayed, as text. */
export function replayLines(file: string, { played, cut, skipped, lost, sent }: ReplayReport): string[] {
  const { outbound, tooShort, tooLong } = skipped;
  const left = [
    [outbound, 'that the recorded machine had sent'],
    [tooShort, 'shorter than an Ethernet header'],
    [tooLong, 'longer than a frame'],
  ] as const;
  return [
    `replayed: ${count(played)} packets of ${file}, and ${count(sent)} sent`,
    ...(cut > 0 ? [`  ${count(cut)} of them cut by the recording`] : []),
    ...left
      .filter(([packets]) => packets > 0)
      .map(([packets, why]) => `  left out: ${count(packets)} ${why}`),
    ...(lost > 0 ? [`  ${count(lost)} lost in a VF that left`] : []),
  ];
}
