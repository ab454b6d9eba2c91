/** What a machine needs for guests. One that lacks it is no failure of the project: the smoke is skipped there. */
import { spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync, mkdirSync, statfsSync } from 'node:fs';
import { freemem } from 'node:os';
import { delimiter, join } from 'node:path';

/** Status of a preparation that cannot have its packages, see packages.sh: its last line says why. */
export const UNAVAILABLE = 69;

/** Why no guest can be prepared or booted here. Its message is one line. */
export class Lacking extends Error {}

/** What the scripts that prepare use and do not install. */
const PREPARING = ['bash', 'apt-get', 'apt-cache', 'dpkg-deb', 'tar', 'awk', 'timeout', 'flock', 'unshare'];
const BOOTING = ['ldd', 'setpriv', 'nsenter'];
const GUEST_BYTES = 4e9;
const DISK_BYTES = 2e9;

/** Debian's packages for x86-64, and these programs. @throws Lacking */
export function checkPrograms(programs = []) {
  const { platform, arch, env } = process;
  if (platform !== 'linux' || arch !== 'x64')
    throw new Lacking(`it takes Linux on x64, not ${platform} ${arch}`);
  const folders = `${env.PATH}${delimiter}/usr/sbin`.split(delimiter);
  const missing = [...PREPARING, ...programs].filter(
    (program) => !folders.some((folder) => existsSync(join(folder, program))),
  );
  if (missing.length > 0) throw new Lacking(`there is no ${missing.join(', no ')}`);
}

/** What a guest takes; its files are kept in that folder. @throws Lacking */
export function checkRequirements(folder) {
  checkPrograms(BOOTING);
  if (process.getuid() !== 0) throw new Lacking('it takes root: the machines have networks of their own');
  const namespaces = ['--net', '--mount', '--pid', '--fork', '--mount-proc'];
  const { status, stderr } = spawnSync('unshare', [...namespaces, 'true'], { encoding: 'utf8' });
  if (status !== 0) throw new Lacking(`no namespaces are to be had: ${stderr.trim().split('\n')[0]}`);
  if (!existsSync('/dev/net/tun')) throw new Lacking('there is no /dev/net/tun');
  if (freemem() < GUEST_BYTES) throw new Lacking(`a guest takes ${GUEST_BYTES / 1e9} GB of memory`);
  try {
    mkdirSync(folder, { recursive: true });
    accessSync(folder, constants.W_OK);
  } catch (error) {
    throw new Lacking(`${folder} cannot be written to: ${error.code}`);
  }
  const { bavail, bsize } = statfsSync(folder);
  if (!existsSync(join(folder, 'root.stamp')) && bavail * bsize < DISK_BYTES)
    throw new Lacking(`${folder} has no ${DISK_BYTES / 1e9} GB of room`);
}
