/** Commands to type in the peer's shell, if their programs are installed. */
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';

export interface PeerView {
  readonly guestAddress: string;
  /** The peer's own device. */
  readonly device: string;
  /** The guest's network namespace. */
  readonly guest: string;
  /** The UDP port of the suggested commands. */
  readonly udpPort: number;
}

const DNS_PORT = 53;
/** Columns of a command; the meaning of a longer one starts further right. */
const COMMAND_WIDTH = 36;

/** @param installed whether there is a program of this name */
export function hints(
  { guestAddress, device, guest, udpPort }: PeerView,
  installed: (program: string) => boolean,
): string[] {
  const udp = `/dev/udp/${guestAddress}/${udpPort}`;
  const suggestions: readonly (readonly [program: string, command: string, meaning: string])[] = [
    ['ping', `ping ${guestAddress}`, 'send echo requests and see the replies'],
    [
      'nc',
      `nc -u ${guestAddress} ${udpPort}`,
      `send what you type to UDP port ${udpPort} and see the answers`,
    ],
    ['tcpdump', `tcpdump -lni ${device} &`, 'show packets, and go on typing'],
    ['dig', `dig @${guestAddress} NAME`, 'ask for a name'],
  ];
  const wanted = suggestions.filter(([program]) => program !== 'dig' || udpPort === DNS_PORT);
  const missing = wanted.map(([program]) => program).filter((program) => !installed(program));
  const rows = wanted.filter(([program]) => installed(program)).map(([, ...row]) => row);
  if (missing.includes('nc') && installed('bash')) {
    const command = `bash -c 'exec 3<>${udp}; echo hello >&3; timeout 2 head -n 1 <&3'`;
    rows.push([command, `send "hello" to UDP port ${udpPort} and see the answer`]);
  }
  rows.push(
    [
      `ip netns exec ${guest} CMD`,
      'run a program in the guest, whose stack gets the packets that the handler passes',
    ],
    ['exit', 'end the port and the network, and print the statistics'],
  );
  const lines = rows.map(([command, meaning]) => `  ${command.padEnd(COMMAND_WIDTH)}  # ${meaning}`);
  return missing.length === 0 ? lines : [...lines, `Not installed here: ${missing.join(', ')}.`];
}

/** Whether a folder of PATH has an executable file with this name. */
export function isInstalled(program: string, path = process.env.PATH ?? ''): boolean {
  return path.split(delimiter).some((folder) => isExecutable(join(folder, program)));
}

export function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
