/** A NetVSC serves one port at a time, whoever opens it; and only who may open a port can be in the way of one. */
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { openPort, type Port } from '../../dist/src/index.js';
import { buildLab, type Lab, nothingLeft, until } from '../support/harness.ts';
import { hold, kill } from '../support/held.ts';
import { attachments, linkIn } from '../support/machine-state.ts';
import { asNobody, ROOT } from '../support/nobody.ts';
import { Run } from '../support/process.ts';

const OPEN = join(ROOT, 'test/fixtures/open-and-say.mjs');

const options = (lab: Lab) => ({
  netns: lab.guest,
  netvsc: lab.nic.netvsc,
  force: true,
  queues: 2,
  handler: new URL('../../dist/src/handlers/drop.js', import.meta.url),
});

async function open(lab: Lab, more: object = {}): Promise<Port> {
  const port = await openPort({ ...options(lab), ...more });
  onTestFinished(() => port.close());
  return port;
}

/** The same by a process of its own. */
function command(lab: Lab): string[] {
  const { handler, ...others } = options(lab);
  return [process.execPath, OPEN, JSON.stringify({ ...others, handler: handler.href })];
}

async function refusal(words: readonly string[]): Promise<string> {
  const { code, stdout } = await new Run(words).outcome;
  expect(code, stdout).toBe(1);
  const said = JSON.parse(stdout);
  expect(said).toMatchObject({ code: 'ERR_DEVICE_BUSY' });
  return said.message;
}

describe('a second port on a NetVSC', () => {
  it.each(['tcx', 'clsact'] as const)('is refused and the first goes on (%s)', async (redirect) => {
    const lab = await buildLab();
    const first = await open(lab, { redirect });
    await expect(openPort({ ...options(lab), redirect })).rejects.toMatchObject({ code: 'ERR_DEVICE_BUSY' });
    expect(first.stats().queues.every(({ owner }) => owner === 'synthetic')).toBe(true);
    await first.close();
    await (await open(lab, { redirect })).close();
    await nothingLeft(lab);
  });

  it('gets an error that names the process that has the device', async () => {
    const lab = await buildLab();
    const port = await open(lab);
    const before = attachments(lab.guest);
    expect(await refusal(command(lab))).toMatch(
      new RegExp(`: eth0: the port of process ${process.pid} has it\\. `),
    );
    const contained = ['unshare', '--mount', '--pid', '--ipc', '--uts', '--fork', '--', ...command(lab)];
    expect(await refusal(contained)).toContain(`process ${process.pid}`);
    expect(attachments(lab.guest)).toEqual(before);
    await port.close();
    await nothingLeft(lab);
  });

  it('opens at once when the process of the first was killed', async () => {
    const lab = await buildLab();
    for (let round = 0; round < 3; round++) {
      const held = await hold(lab);
      expect(await refusal(command(lab))).toContain(`process ${held.child.pid}`);
      await kill(held);
      expect(linkIn(lab.guest, `tlock${linkIn(lab.guest, 'eth0')!.ifindex}`)).toBeUndefined();
    }
    expect(await new Run(command(lab)).outcome).toMatchObject({ code: 0, stderr: '' });
    await nothingLeft(lab);
  });

  it('opens where only the number of the device is the same, in another namespace', async () => {
    const [one, other] = [await buildLab(), await buildLab()];
    expect(linkIn(one.guest, 'eth0')!.ifindex).toBe(linkIn(other.guest, 'eth0')!.ifindex);
    await open(one);
    await open(other);
  });
});

describe('the lock of a port', () => {
  it('says whose it is to anybody who lists the interfaces, and is gone with the port', async () => {
    const lab = await buildLab();
    const port = await open(lab);
    const name = `tlock${linkIn(lab.guest, 'eth0')!.ifindex}`;
    const shown = execFileSync('ip', ['-n', lab.guest, 'link', 'show', name], { encoding: 'utf8' });
    expect(shown).toContain(`alias Twinpath port on eth0, process ${process.pid}`);
    expect(shown).toContain('state DOWN');
    await port.close();
    expect(linkIn(lab.guest, name)).toBeUndefined();
  });

  it('cannot be held by a user who may not open a port', async () => {
    const lab = await buildLab();
    const { ifindex } = linkIn(lab.guest, 'eth0')!;
    const tun = ['unshare', '--mount', 'sh', '-c'];
    const shared = 'mount -t tmpfs none /dev/net && mknod -m 666 /dev/net/tun c 10 200 && exec "$@"';
    const taker = asNobody([process.execPath, join(ROOT, 'test/fixtures/lock-taker.mjs'), String(ifindex)]);
    const run = new Run(['ip', 'netns', 'exec', lab.guest, ...tun, shared, 'sh', ...taker]);
    await until('the taker to have tried', () => {
      if (run.child.exitCode !== null) throw new Error(run.stderr);
      return run.stdout.includes('\n');
    });
    expect(JSON.parse(run.stdout)).toEqual({ sockets: Array(6).fill(0), devices: [-1, -1] });
    await (await open(lab)).close();
  });
});
