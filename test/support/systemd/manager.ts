/**
 * A real systemd, the machine's own, as the first process of namespaces that end with the test (boot.sh): with journald, udevd,
 * and the network of a lab's guest. The package is installed there as docs/deploying.md says.
 */
import { type SpawnSyncReturns, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, existsSync, mkdirSync, readFileSync, realpathSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { endWithTest } from '../children.ts';
import { type Lab, until } from '../harness.ts';
import { ROOT } from '../nobody.ts';

const BOOT = join(ROOT, 'test/support/systemd/boot.sh');
/** The programs that boot.sh and these tests start. */
const PROGRAMS = ['setpriv', 'unshare', 'nsenter', 'pivot_root', 'bash', 'systemctl', 'udevadm'];

/** Why no systemd can be run here; undefined if one can. */
export function whyNoSystemd(): string | undefined {
  const found = (program: string): boolean =>
    [...process.env.PATH!.split(':'), '/usr/sbin', '/sbin'].some((folder) =>
      existsSync(join(folder, program)),
    );
  const missing = PROGRAMS.find((program) => !found(program));
  if (missing !== undefined) return `needs ${missing}: test/peers.sh installs it`;
  for (const part of ['systemd', 'systemd-udevd', 'systemd-journald', 'systemd-networkd'])
    if (!existsSync(`/lib/systemd/${part}`)) return `needs /lib/systemd/${part}: test/peers.sh installs it`;
  for (const type of ['cgroup2', 'overlay']) {
    if (!new RegExp(`\\b${type}$`, 'm').test(readFileSync('/proc/filesystems', 'utf8')))
      return `needs ${type} in the kernel`;
  }
  // A container may have namespaces and yet not be allowed to mount in them.
  const mounts =
    "d=$(mktemp -d); trap 'umount -l $d; rmdir $d' EXIT; mount -t tmpfs t $d && mkdir $d/g $d/u $d/w $d/r && " +
    'mount -t cgroup2 c $d/g && mkdir $d/g/twinpath-test.$$ && rmdir $d/g/twinpath-test.$$ && ' +
    'mount -t overlay o -o lowerdir=/,upperdir=$d/u,workdir=$d/w $d/r && umount $d/r';
  const { status, stderr } = spawnSync(
    'unshare',
    ['--mount', '--propagation', 'private', 'bash', '-c', mounts],
    {
      encoding: 'utf8',
    },
  );
  return status === 0 ? undefined : `needs to mount in a namespace: ${stderr.trim().split('\n')[0]}`;
}

/** Packs the package and installs it into a folder, as npm installs it globally. Returns the package's own folder. */
export function installPackage(folder: string): string {
  const npm = (...args: string[]): string => {
    const { status, stdout, stderr } = spawnSync('npm', args, { cwd: ROOT, encoding: 'utf8' });
    if (status !== 0) throw new Error(`npm ${args[0]}: ${stderr}`);
    return stdout.trim();
  };
  const file = npm('pack', '--silent', '--ignore-scripts', '--pack-destination', folder);
  npm(
    'install',
    '--global',
    '--prefer-offline',
    '--no-audit',
    '--no-fund',
    '--prefix',
    folder,
    join(folder, file),
  );
  const installed = join(folder, 'lib/node_modules/twinpath');
  // What `npm pack` builds without --ignore-scripts, for this machine's architecture alone.
  const prebuilt = join(installed, `prebuilds/linux-${process.arch}`);
  mkdirSync(prebuilt, { recursive: true });
  cpSync(join(ROOT, 'build/shim.so'), join(prebuilt, 'shim.so'));
  return installed;
}

export interface Said {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export class Manager {
  /** Of the first process, outside. */
  readonly #first: number;

  private constructor(first: number) {
    this.#first = first;
  }

  /**
   * Boots it in the guest of a lab, until the test is over.
   *
   * @param installed the folder of {@link installPackage}
   * @param additions folders whose files are laid over the root
   */
  static async boot(lab: Lab, installed: string, additions: readonly string[] = []): Promise<Manager> {
    const words = ['netns', 'exec', lab.guest, 'bash', BOOT, `twinpath-test.${process.pid}`, installed];
    const child = spawn('ip', [...words, ...additions], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, NODE: realpathSync(process.execPath) },
    });
    let said = '';
    child.stderr.on('data', (data) => {
      said += data;
    });
    endWithTest(child, 'SIGTERM');
    const [line] = (await Promise.race([
      once(createInterface(child.stdout), 'line'),
      once(child, 'exit').then(() => [said]),
    ])) as [string];
    let first = 0;
    await until('the first process', () => {
      if (child.exitCode !== null) throw new Error(said);
      first = Number(readFileSync(`/proc/${line}/task/${line}/children`, 'utf8').trim());
      return first > 0;
    });
    const manager = new Manager(first);
    await until('systemd', () => {
      if (child.exitCode !== null) throw new Error(said);
      return manager.run('systemctl', 'is-active', 'test.target').stdout === 'active\n';
    });
    manager.shell('udevadm trigger --subsystem-match=net --action=add && udevadm settle'); // as a boot does for all devices
    return manager;
  }

  /** Runs a program as root beside it, to its end. */
  run(...command: readonly string[]): Said {
    const { status, stdout, stderr } = this.#enter(command, '');
    return { code: status, stdout, stderr };
  }

  #enter(command: readonly string[], input: string): SpawnSyncReturns<string> {
    const target = ['-t', String(this.#first), '-m', '-p', '-n', '-i', '-u', '-C', '-r', '-w'];
    return spawnSync('nsenter', [...target, ...command], {
      ...{ encoding: 'utf8', input },
      env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', LANG: 'C.UTF-8', SYSTEMD_COLORS: '0' },
    });
  }

  /** Runs a script of sh as root beside it. Returns its standard output, without the last newline. @throws if it fails */
  shell(script: string): string {
    const { code, stdout, stderr } = this.run('sh', '-c', script);
    if (code !== 0) throw new Error(`"${script}" ended with ${code}: ${stderr}${stdout}`);
    return stdout.replace(/\n$/, '');
  }

  /** Writes a file there, and makes its folder. systemd reads its units again. */
  write(path: string, text: string): void {
    const { status, stderr } = this.#enter(
      ['sh', '-c', `mkdir -p "$(dirname ${path})" && cat >${path} && systemctl daemon-reload`],
      text,
    );
    if (status !== 0) throw new Error(`${path}: ${stderr}`);
  }

  /** A property of a unit, as `systemctl show` has it. */
  property(unit: string, name: string): string {
    return this.shell(`systemctl show --property ${name} --value ${unit}`);
  }

  /** What the journal has of a unit: its own lines, and systemd's about it. */
  journal(unit: string): string {
    return this.shell(`journalctl --no-pager --output cat --unit ${unit}`);
  }
}
