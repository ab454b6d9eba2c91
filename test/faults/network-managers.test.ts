/** The files of deploy/network, read by systemd-networkd, udev and NetworkManager, which run in the network of a lab's guest. */
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { buildLab, drive, expectUnharmed, type Lab, passed, until } from '../support/harness.ts';
import { ROOT } from '../support/nobody.ts';
import { privileged } from '../support/requirements.ts';
import { installPackage, Manager, whyNoSystemd } from '../support/systemd/manager.ts';

const folder = mkdtempSync(join(tmpdir(), 'twinpath-network-'));
afterAll(() => rmSync(folder, { recursive: true }));
let missing: string | undefined;
let installed: string;
beforeAll(
  privileged(() => {
    missing = whyNoSystemd();
    if (missing === undefined) installed = installPackage(folder);
  }),
  300_000,
);

const file = (name: string): string => readFileSync(join(ROOT, 'deploy/network', name), 'utf8');

/** A root with it: test/peers.sh unpacks one. */
const NETWORK_MANAGER = join(ROOT, 'build/peers/network-manager');
const hasNetworkManager = ['', NETWORK_MANAGER].some((root) => existsSync(`${root}/usr/sbin/NetworkManager`));

/** systemd, and a port on eth0 under it. */
async function boot(lab: Lab, additions: readonly string[] = []): Promise<Manager> {
  const manager = await Manager.boot(lab, installed, additions);
  const command = 'run echo --netvsc eth0 --force --option address=10.77.0.2';
  manager.shell(
    `systemd-run --quiet --unit port --property Type=notify --property User=root -- \
    /usr/bin/node /usr/lib/node_modules/twinpath/dist/src/cli/main.js ${command}`,
  );
  return manager;
}

describe('the files for network managers', { timeout: 120_000 }, () => {
  it('systemd-networkd leaves the taps and the VF of a port alone', async ({ skip }) => {
    skip(missing !== undefined, missing);
    const lab = await buildLab();
    const manager = await boot(lab);
    // A network that is configured as a whole, as many machines have theirs.
    const all = '[Match]\nName=*\n[Network]\nLinkLocalAddressing=no\nKeepConfiguration=yes\n';
    manager.write('/etc/systemd/network/99-all.network', all);
    const states = (): Record<string, string> => {
      const lines = manager.shell('networkctl list --no-legend --no-pager').split('\n');
      return Object.fromEntries(lines.map((line) => [1, 4].map((i) => line.trim().split(/\s+/)[i]!)));
    };
    const devices = ['twinpath0', 'twinhost0', 'vf0'];
    const plug = async (times: number): Promise<void> => {
      await lab.nic.plug();
      const moved = /queue \d: synthetic → vf/g;
      await until(
        'the port on the VF',
        () => (manager.journal('port').match(moved)?.length ?? 0) >= 2 * times,
      );
      await lab.nic.moveDataPath('vf');
    };
    await plug(1);
    manager.shell('systemctl restart systemd-networkd');
    await until('them taken', () => devices.every((device) => states()[device] === 'configured'));

    manager.write('/etc/systemd/network/10-twinpath.network', file('10-twinpath.network'));
    // The stand-in's driver, which that of the NetVSC has too.
    const vf = file('10-twinpath-vf.network').replace(/^Driver=.*$/m, 'Driver=veth\nName=vf0');
    manager.write('/etc/systemd/network/10-twinpath-vf.network', vf);
    manager.shell('systemctl restart systemd-networkd');
    await until('the NetVSC configured', () => states().eth0 === 'configured');
    for (const device of devices) expect(states()[device], device).toBe('unmanaged');
    const traffic = await drive(lab, lab.nic);
    await passed(traffic);
    await lab.nic.moveDataPath('synthetic');
    await lab.nic.unplug();
    await plug(2);
    await passed(traffic);
    expect(states().vf0).toBe('unmanaged');
    expectUnharmed(await traffic.stop({ settleMillis: 400 }));
  });

  it.for([
    ['twinpath.conf', '/etc/NetworkManager/conf.d'],
    ['85-twinpath.rules', '/etc/udev/rules.d'],
  ] as const)(
    'NetworkManager leaves devices with names of a port alone by %s',
    async ([name, place], { skip }) => {
      skip(missing !== undefined, missing);
      skip(!hasNetworkManager, 'needs NetworkManager: test/peers.sh unpacks it');
      const manager = await boot(await buildLab(), existsSync(NETWORK_MANAGER) ? [NETWORK_MANAGER] : []);
      // It manages no tap of another program, nor by Debian's rule a veth: two veths show what the file does, without that rule.
      manager.shell(`
      ln -s /dev/null /etc/udev/rules.d/85-nm-unmanaged.rules && udevadm control --reload
      ip link add twinpath7 type veth peer name other7
    `);
      const states = (): Record<string, string> => {
        const { stdout } = manager.run('nmcli', '--terse', '--fields', 'DEVICE,STATE', 'device');
        return Object.fromEntries(stdout.split('\n').map((line) => line.split(':') as [string, string]));
      };
      // What it has once managed it keeps, by what it remembers there.
      const restart = async (): Promise<void> => {
        manager.shell(`
        systemctl stop NetworkManager; rm -rf /run/NetworkManager/devices
        udevadm control --reload && udevadm trigger --subsystem-match=net && udevadm settle
        systemctl start dbus NetworkManager
      `);
        await until('its devices', () => !['unmanaged', 'unavailable', undefined].includes(states().other7));
      };
      await restart();
      expect(states().twinpath7).not.toBe('unmanaged');
      manager.write(`${place}/${name}`, file(name));
      await restart();
      const { twinpath0, twinhost0, twinpath7 } = states();
      expect([twinpath0, twinhost0, twinpath7]).toEqual(['unmanaged', 'unmanaged', 'unmanaged']);
      const marked = manager.shell('udevadm info /sys/class/net/twinpath0').includes('E: NM_UNMANAGED=1');
      expect(marked).toBe(name.endsWith('.rules'));
    },
  );
});
