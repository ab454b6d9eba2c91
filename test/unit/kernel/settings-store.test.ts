/** Originals of settings in files: whole or not there, private, and nobody else's. */
import {
  chmodSync,
  chownSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { SettingsStore } from '../../../src/kernel/settings-store.ts';
import type { Shim } from '../../../src/kernel/shim.ts';
import { link } from '../../support/machine.ts';

const NOBODY = 65_534;

const SETTINGS = {
  channels: { original: { combined: 8, rx: 0, tx: 0 }, applied: { combined: 2, rx: 0, tx: 0 } },
};
const VF = link({
  ifindex: 7,
  permanentAddress: '00:0d:3a:44:55:00',
  parentBus: 'pci',
  parentDevice: 'b067:00:02.0',
});

function temporary(): string {
  const folder = mkdtempSync(join(tmpdir(), 'tp-store-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** A store in a folder of its own, and that folder. */
function made(namespace = '1', folder = temporary()): { store: SettingsStore; folder: string; file: string } {
  return {
    store: new SettingsStore(namespace, folder),
    folder,
    file: join(folder, 'mac-00-0d-3a-44-55-00.json'),
  };
}

describe('a store of settings', () => {
  it('returns what was saved, in later processes too, until it is deleted', () => {
    const { store, folder, file } = made();
    expect([store.load(VF), store.empty]).toEqual([{}, true]);
    store.save(VF, SETTINGS);
    expect(readdirSync(folder)).toEqual(['mac-00-0d-3a-44-55-00.json']);
    expect(lstatSync(file).mode & 0o777).toBe(0o600);
    expect([new SettingsStore('1', folder).load(VF), store.empty]).toEqual([SETTINGS, false]);
    expect(store.owner(VF)).toBe(process.pid);
    store.forget(VF);
    store.forget(VF);
    expect([store.load(VF), readdirSync(folder), store.owner(VF)]).toEqual([{}, [], 0]);
  });

  it('knows a device by its permanent MAC in any namespace, and one without by its number in its own', () => {
    const { store, folder } = made();
    const elsewhere = new SettingsStore('2', folder);
    const veth = link({ ifindex: 7, kind: 'veth', address: '02:00:00:00:00:01' });
    store.save(VF, SETTINGS);
    store.save(veth, SETTINGS);
    expect(elsewhere.load({ ...VF, name: 'renamed', address: '02:00:00:00:00:99' })).toEqual(SETTINGS);
    expect(elsewhere.load(veth)).toEqual({});
    expect([VF, veth].map((device) => store.recognizesEverywhere(device))).toEqual([true, false]);
    // Two functions of one MANA have different MACs; a device that does not say its MAC is known by its place.
    expect(store.load({ ...VF, permanentAddress: '00:0d:3a:44:55:01' })).toEqual({});
    const placed = { ...VF, permanentAddress: '' };
    store.save(placed, SETTINGS);
    expect(readdirSync(folder)).toContain('bus-pci-b067:00:02.0.json');
  });

  it('holds nothing for another device in the same place, or of another boot', () => {
    const { store, file } = made();
    store.save(VF, SETTINGS);
    expect(store.load({ ...VF, ifindex: 8 })).toEqual({});
    const record = JSON.parse(readFileSync(file, 'utf8'));
    writeFileSync(file, JSON.stringify({ ...record, boot: 'another' }));
    expect(store.load(VF)).toEqual({});
  });

  it('keeps a NetVSC and the VF with its MAC apart, and forgets neither for the other', () => {
    const { store, folder } = made();
    const netvsc = link({ ifindex: 3, permanentAddress: VF.permanentAddress, parentBus: 'vmbus' });
    const theirs = { merging: { original: { 'rx-lro': true }, applied: { 'rx-lro': false } } };
    store.save(VF, SETTINGS);
    store.for('netvsc').save(netvsc, theirs);
    store.forget(netvsc);
    store.for('netvsc').forget(VF);
    expect([store.load(VF), store.for('netvsc').load(netvsc)]).toEqual([SETTINGS, theirs]);
    expect([store.load(netvsc), store.for('netvsc').load(VF)]).toEqual([{}, {}]);
    // One card alone is both.
    store.for('netvsc').save(VF, theirs);
    store.forget(VF);
    expect([store.load(VF), store.for('netvsc').load(VF)]).toEqual([{}, theirs]);
    store.for('netvsc').forget(VF);
    expect(readdirSync(folder)).toEqual([]);
  });

  it('tells whether the process lives that saved it, and not another one with its number', () => {
    const { store, file } = made();
    store.save(VF, SETTINGS);
    const record = JSON.parse(readFileSync(file, 'utf8'));
    for (const change of [{ started: '1' }, { pid: 2 ** 30 }, { pid: 'x' }]) {
      writeFileSync(file, JSON.stringify({ ...record, ...change }));
      expect(store.owner(VF)).toBe(0);
      expect(store.load(VF)).toEqual(SETTINGS);
    }
  });

  it.each([
    ['nothing', ''],
    ['half a record', '{"boot":"'],
    ['another kind of value', '7'],
    ['no settings', '{"ifindex":7}'],
    ['settings that are none', '{"ifindex":7,"settings":[1]}'],
    ['NUL bytes', '\0\0\0'],
  ])('takes a file that holds %s for none', (_, text) => {
    const { store, file } = made();
    writeFileSync(file, text, { mode: 0o600 });
    expect([store.load(VF), store.owner(VF)]).toEqual([{}, 0]);
  });

  it('reads no file that others can write, that has another name as well, or that is a link', () => {
    const { store, folder, file } = made();
    store.save(VF, SETTINGS);
    chmodSync(file, 0o666);
    expect(store.load(VF)).toEqual({});
    chmodSync(file, 0o600);
    expect(store.load(VF)).toEqual(SETTINGS);
    linkSync(file, join(folder, 'other'));
    expect(store.load(VF)).toEqual({});
    rmSync(file);
    symlinkSync(join(folder, 'other'), file);
    expect(store.load(VF)).toEqual({});
  });

  it('replaces a symbolic link in its place, and never writes through one', () => {
    const { store, folder, file } = made();
    const target = join(folder, 'target');
    writeFileSync(target, 'mine');
    symlinkSync(target, file);
    symlinkSync(target, `${file}.${process.pid}`);
    store.save(VF, SETTINGS);
    expect(readFileSync(target, 'utf8')).toBe('mine');
    expect(lstatSync(file).isFile()).toBe(true);
    expect(store.load(VF)).toEqual(SETTINGS);
  });

  it('says why it cannot save, leaves no half file, and what it holds already stays', () => {
    const { store, folder, file } = made();
    store.save(VF, SETTINGS);
    rmSync(file);
    mkdirSync(join(file, 'in-the-way'), { recursive: true });
    expect(() => store.save(VF, SETTINGS)).toThrow();
    expect(readdirSync(folder)).toEqual(['mac-00-0d-3a-44-55-00.json']);
    rmSync(folder, { recursive: true });
    expect(() => store.save(VF, SETTINGS)).toThrow('ENOENT');
    expect([store.load(VF), store.empty]).toEqual([{}, true]);
    store.forget(VF);
    const refused = new SettingsStore('1', undefined, 'there is no folder');
    expect(() => refused.save(VF, SETTINGS)).toThrow('there is no folder');
    expect([refused.load(VF), refused.empty, refused.owner(VF)]).toEqual([{}, true, 0]);
  });
});

describe('the folder of a store', () => {
  const shim: Partial<Shim> = { socket: () => -1 };
  const open = (folder: string | undefined): SettingsStore =>
    SettingsStore.open(shim as Shim, folder === undefined ? {} : { XDG_RUNTIME_DIR: folder });

  it('of a user is below XDG_RUNTIME_DIR, if that is the user’s own', () => {
    const runtime = temporary();
    chmodSync(runtime, 0o700);
    const root = process.geteuid?.() === 0;
    if (root) chownSync(runtime, NOBODY, NOBODY);
    if (root) process.seteuid!(NOBODY);
    try {
      expect(open(runtime).refusal).toBeUndefined();
      expect(lstatSync(join(runtime, 'twinpath')).mode & 0o777).toBe(0o700);
      for (const folder of [undefined, '', 'relative', join(runtime, 'missing')]) {
        expect(open(folder).refusal).toMatch(/XDG_RUNTIME_DIR/);
      }
      chmodSync(runtime, 0o777);
      expect(open(runtime).refusal).toMatch(/XDG_RUNTIME_DIR/);
    } finally {
      if (root) process.seteuid!(0);
    }
  });

  it('of root is /run/twinpath, regardless of the environment', ({ skip }) => {
    skip(process.geteuid?.() !== 0, 'needs root');
    const runtime = temporary();
    expect(open(runtime).refusal).toBeUndefined();
    expect(readdirSync(runtime)).toEqual([]);
    const { uid, mode } = lstatSync('/run/twinpath');
    expect([uid, mode & 0o777]).toEqual([0, 0o700]);
  });
});
