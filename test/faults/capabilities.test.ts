/**
 * A user that is not root, with exactly the capabilities that docs/requirements.md names, has a port with both paths; without
 * one of them it is told which. /dev/net/tun is for everybody in these tests, as udev makes it.
 */
import { chmodSync, chownSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import {
  buildLab,
  drive,
  ECHO,
  expectUnharmed,
  type Lab,
  nothingLeft,
  passed,
  until,
} from '../support/harness.ts';
import { asNobody, NOBODY, ROOT } from '../support/nobody.ts';
import { Run, temporary } from '../support/process.ts';

const FIXTURE = join(ROOT, 'test/fixtures/told-port.mjs');
const DOCUMENTED = ['net_admin', 'net_raw', 'bpf', 'ipc_lock'];
/** What makes the programs compute positions in a packet. The rules leave all traffic to the handler, as without them. */
const COMPUTING = {
  "protect: 'platform'": { protect: 'platform' },
  rules: { configuration: { rules: ['tcp dst port 9 count'] } },
};
const COMPUTES = /bpf\(PROG_LOAD.*EACCES.*CAP_PERFMON too.*: this process lacks it\.$/;
const TUN_FOR_ALL = 'mount -t tmpfs none /dev/net && mknod -m 666 /dev/net/tun c 10 200 && exec "$@"';

interface Told {
  readonly open?: Record<string, { device: string; mode: string }>;
  readonly refused?: string;
  readonly error?: string;
  readonly message?: string;
  readonly link?: { path: string; device: string; state: string };
  readonly queue?: number;
  readonly owner?: string;
}

interface Wanted {
  readonly capabilities?: readonly string[];
  readonly options?: object;
  /** The process starts in the guest's namespace; otherwise the port is told of it. */
  readonly inside?: boolean;
  /** Before the user is changed. */
  readonly wrapped?: readonly string[];
  readonly tun?: string;
}

class ToldPort {
  readonly run: Run;
  readonly queues: number;

  constructor(lab: Lab, { capabilities = DOCUMENTED, options = {}, inside = true, ...how }: Wanted = {}) {
    const { netvsc, guestAddress } = lab.nic;
    const handler = { handler: ECHO.pathname, handlerOptions: { address: guestAddress } };
    const wanted = { ...handler, netvsc, force: true, queues: 2, ...(inside ? {} : { netns: lab.guest }) };
    const given = { ...wanted, ...options };
    this.queues = given.queues;
    const within = inside ? ['ip', 'netns', 'exec', lab.guest] : [];
    const tun = ['unshare', '--mount', 'sh', '-c', how.tun ?? TUN_FOR_ALL, 'sh'];
    const program = asNobody([process.execPath, FIXTURE, JSON.stringify(given)], capabilities);
    // Where a login, or systemd's RuntimeDirectory, lets a user keep what is to outlive a process.
    const XDG_RUNTIME_DIR = temporary();
    chownSync(XDG_RUNTIME_DIR, NOBODY, NOBODY);
    chmodSync(XDG_RUNTIME_DIR, 0o700);
    const env = { ...process.env, XDG_RUNTIME_DIR };
    this.run = new Run([...within, ...tun, ...(how.wrapped ?? []), ...program], { env, input: true });
  }

  get told(): Told[] {
    return this.run.stdout
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line));
  }

  async until(what: string, found: (told: Told) => boolean, times = 1): Promise<Told> {
    await until(what, () => {
      const { told } = this;
      const enough = told.filter(found).length >= times;
      if (!enough && this.run.child.exitCode !== null)
        throw new Error(`it ended: ${this.run.stdout}${this.run.stderr}`);
      return enough;
    });
    return this.told.find(found)!;
  }

  opened(): Promise<Told> {
    return this.until('the port open', ({ open }) => open !== undefined);
  }

  async ownedBy(path: string): Promise<void> {
    await this.until(`the queues on ${path}`, ({ owner }) => owner === path, this.queues);
  }

  async close(): Promise<void> {
    this.run.child.stdin!.end();
    expect(await this.run.outcome).toMatchObject({ code: 0, stderr: '' });
  }

  async refused(): Promise<string> {
    const { code, stderr } = await this.run.outcome;
    expect({ code, stderr }).toEqual({ code: 1, stderr: '' });
    expect(this.told).toEqual([{ refused: 'ERR_PERMISSION', message: expect.any(String) }]);
    return this.told[0]!.message!;
  }
}

/** Traffic by the synthetic path and then by a VF that is plugged meanwhile, none of it lost. */
async function passesBoth(lab: Lab, port: ToldPort): Promise<void> {
  await port.opened();
  const traffic = await drive(lab, lab.nic, { rate: 2000 });
  await passed(traffic, 200);
  await lab.nic.plug();
  await port.ownedBy('vf');
  await lab.nic.moveDataPath('vf');
  await passed(traffic, 400);
  expectUnharmed(await traffic.stop({ settleMillis: 400 }));
  expect(port.told.filter(({ error }) => error !== undefined)).toEqual([]);
  await port.close();
  await nothingLeft(lab);
}

/** A VF that is plugged is refused with these words, and the traffic goes on by the synthetic path. */
async function keepsSynthetic(lab: Lab, port: ToldPort, words: RegExp): Promise<void> {
  await port.opened();
  const traffic = await drive(lab, lab.nic, { rate: 2000 });
  await lab.nic.plug();
  const { error, message } = await port.until('an error', (told) => told.error !== undefined);
  expect(error).toBe('ERR_PERMISSION');
  expect(message).toMatch(words);
  const { link } = await port.until('the VF failed', (told) => told.link?.state === 'failed');
  expect(link).toMatchObject({ path: 'vf', device: 'vf0' });
  await passed(traffic, 400);
  expectUnharmed(await traffic.stop({ settleMillis: 400 }));
  await port.close();
  await nothingLeft(lab);
}

describe('a user that is not root', () => {
  it.each(['ingress', 'inline', 'off'])(
    'has both paths with exactly the documented capabilities, with host %s',
    async (host) => {
      const lab = await buildLab();
      await passesBoth(lab, new ToldPort(lab, { options: { host } }));
    },
  );

  it.each(Object.entries(COMPUTING))(
    'has both paths with CAP_PERFMON beside them, with %s',
    async (_, options) => {
      const lab = await buildLab();
      await passesBoth(lab, new ToldPort(lab, { capabilities: [...DOCUMENTED, 'perfmon'], options }));
    },
  );

  it('without CAP_PERFMON is refused protect: ’platform’ by the name of what it lacks', async () => {
    const lab = await buildLab();
    const options = { protect: 'platform' };
    expect(await new ToldPort(lab, { options }).refused()).toMatch(COMPUTES);
    await nothingLeft(lab);
  });

  it('without CAP_PERFMON keeps the synthetic path with rules, and is told what the VF takes', async () => {
    const lab = await buildLab();
    const port = new ToldPort(lab, { options: COMPUTING.rules });
    await keepsSynthetic(lab, port, COMPUTES);
  });

  it('has a port in another network namespace with CAP_SYS_ADMIN beside them', async () => {
    const lab = await buildLab();
    await passesBoth(lab, new ToldPort(lab, { capabilities: [...DOCUMENTED, 'sys_admin'], inside: false }));
  });

  it('is told of CAP_SYS_ADMIN when it may not enter the network namespace', async () => {
    const lab = await buildLab();
    const message = await new ToldPort(lab, { inside: false }).refused();
    expect(message).toMatch(/setns: EPERM.*CAP_SYS_ADMIN/);
    await nothingLeft(lab);
  });

  it.each([
    ['net_admin', /TUNSETIFF.*EPERM.* lacks CAP_NET_ADMIN\.$/],
    ['bpf', /bpf\(.*EPERM.* lacks CAP_BPF\.$/],
  ])('without %s is refused by the name of what it lacks', async (name, words) => {
    const lab = await buildLab();
    const capabilities = DOCUMENTED.filter((other) => other !== name);
    expect(await new ToldPort(lab, { capabilities }).refused()).toMatch(words);
    await nothingLeft(lab);
  });

  it.each([
    ['net_raw', /socket\(AF_XDP\): EPERM.* lacks CAP_NET_RAW\.$/],
    ['ipc_lock', /XDP_UMEM_REG.*RLIMIT_MEMLOCK.*CAP_IPC_LOCK.*ulimit -l 102400\b/],
  ])('without %s keeps the synthetic path, and is told what the VF takes', async (name, words) => {
    const lab = await buildLab();
    const capabilities = DOCUMENTED.filter((other) => other !== name);
    const wrapped = ['prlimit', '--memlock=65536:65536', '--'];
    await keepsSynthetic(lab, new ToldPort(lab, { capabilities, wrapped }), words);
  });

  it('needs no CAP_IPC_LOCK where the limit of locked memory holds the frames and what Node has', async () => {
    const lab = await buildLab({ queues: 1 });
    // 8 MiB of frames, once: this is the hard limit of many systems, which root may be unable to raise.
    const port = new ToldPort(lab, {
      capabilities: DOCUMENTED.filter((name) => name !== 'ipc_lock'),
      options: { queues: 1, frames: 4096, tap: 'read/write' },
      wrapped: ['prlimit', '--memlock=8388608:8388608', '--'],
    });
    // The event loops of Node 22 and later have two io_urings each (libuv from 1.49 on), which count as well.
    if (Number.parseInt(process.versions.node, 10) < 22) {
      await passesBoth(lab, port);
      return;
    }
    await port.opened();
    await lab.nic.plug();
    const { message } = await port.until('an error', (told) => told.error !== undefined);
    expect(message).toMatch(/its 8 MiB of frames.*ulimit -l 18432\b/);
    await port.close();
    await nothingLeft(lab);
  });

  it('that may not open /dev/net/tun is told that it is the file’s mode', async () => {
    const lab = await buildLab();
    const tun = TUN_FOR_ALL.replace('666', '600');
    expect(await new ToldPort(lab, { tun }).refused()).toMatch(/\/dev\/net\/tun .*EACCES.*chmod 666/);
    await nothingLeft(lab);
  });
});
