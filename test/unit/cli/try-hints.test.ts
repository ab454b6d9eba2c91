import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { hints, isInstalled } from '../../../src/cli/try-hints.ts';

const VIEW = { guestAddress: '10.77.0.2', device: 'u0', guest: 'tp-1-0-guest', udpPort: 7 };

const shown = (programs: readonly string[], view = VIEW): string =>
  hints(view, (program) => programs.includes(program)).join('\n');

test('hints name the programs that are installed, and list the others as missing', () => {
  const text = shown(['ping', 'bash']);
  expect(text).toContain('  ping 10.77.0.2  ');
  expect(text).not.toMatch(/^ {2}(nc|tcpdump) /m);
  expect(text).toContain('Not installed here: nc, tcpdump.');
});

test('hints list nothing as missing when every program is there', () => {
  const text = shown(['ping', 'nc', 'tcpdump']);
  expect(text).toMatch(/^ {2}nc -u 10\.77\.0\.2 7 /m);
  expect(text).toMatch(/^ {2}tcpdump -lni u0 & /m);
  expect(text).not.toContain('Not installed');
  expect(text).not.toContain('/dev/udp');
});

test('hints let bash send a datagram only where it replaces nc', () => {
  expect(shown(['bash'])).toContain('/dev/udp/10.77.0.2/7');
  expect(shown(['bash', 'nc'])).not.toContain('/dev/udp');
  expect(shown([])).not.toContain('/dev/udp');
});

test('hints offer dig for a name server only', () => {
  expect(shown(['dig'], { ...VIEW, udpPort: 53 })).toContain('dig @10.77.0.2 NAME');
  expect(shown(['dig'])).not.toContain('dig');
});

test('hints always say how to run a program in the guest and how to end', () => {
  expect(shown([])).toMatch(/^ {2}ip netns exec tp-1-0-guest CMD [\s\S]*^ {2}exit /m);
});

test('a program is installed when a folder of PATH has an executable file of its name', () => {
  const folder = mkdtempSync(join(tmpdir(), 'tp-hints-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  writeFileSync(join(folder, 'runs'), '');
  chmodSync(join(folder, 'runs'), 0o755);
  writeFileSync(join(folder, 'text'), '');
  chmodSync(join(folder, 'text'), 0o644);
  const path = ['/nowhere', folder].join(delimiter);
  expect(isInstalled('runs', path)).toBe(true);
  expect(isInstalled('text', path)).toBe(false);
  expect(isInstalled('absent', path)).toBe(false);
});
