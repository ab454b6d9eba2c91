import { describe, expect, it } from 'vitest';
import {
  type CommandTable,
  oneOf,
  pairs,
  parse,
  text,
  unknownCommand,
  whole,
} from '../../../src/cli/arguments.ts';
import { demo } from '../../../src/cli/demo/demo.ts';
import { BUILT_IN_HELP, checkOptionless, handlerUrl, withAddress } from '../../../src/cli/handler-name.ts';
import { commandHelp, generalHelp } from '../../../src/cli/help.ts';
import { list } from '../../../src/cli/list.ts';
import { run } from '../../../src/cli/run.ts';
import { tryHandler } from '../../../src/cli/try.ts';
import { TwinpathError } from '../../../src/errors.ts';
import type { HandlerModule } from '../../../src/handler/handler.ts';
import { workerContext } from '../../support/frames.ts';

const TABLE: CommandTable = {
  name: 'walk',
  summary: 'walks somewhere',
  positionals: ['WHERE'],
  options: {
    steps: { value: 'N', help: 'how many', otherwise: '100' },
    gait: { value: 'GAIT', help: 'how' },
    quietly: { help: 'on tiptoe' },
    option: { value: 'KEY=VALUE', help: 'more', repeatable: true },
  },
  notes: [],
  examples: [['twinpath walk home', 'walk home']],
  exits: [[0, 'arrived']],
};

/** The error of a command line that is wrong, or a test that fails. */
function refusal(...args: string[]): TwinpathError {
  try {
    parse(TABLE, args);
  } catch (error) {
    if (error instanceof TwinpathError) return error;
    throw error;
  }
  throw new Error(`${args.join(' ')} was taken`);
}

describe('a command line', () => {
  it('is parsed into positionals, flags and values, in any order', () => {
    const args = parse(TABLE, ['--steps', '7', 'home', '--quietly', '--gait=trot', '--json']);
    expect(args.positionals).toEqual(['home']);
    expect([...args.flags]).toEqual(['quietly', 'json']);
    expect(whole(args, 'steps', 1, 10)).toBe(7);
    expect(text(args, 'gait')).toBe('trot');
    expect(text(args, 'option')).toBeUndefined();
  });

  it('suggests the nearest option for an unknown one', () => {
    expect(refusal('home', '--step', '7').message).toContain('Did you mean --steps?');
    expect(refusal('home', '--quitely').message).toContain('Did you mean --quietly?');
    expect(refusal('home', '--constructor').code).toBe('ERR_OPTION_UNKNOWN');
    expect(refusal('home', '-x').code).toBe('ERR_OPTION_UNKNOWN');
  });

  it('does not take the next option as a missing value', () => {
    expect(refusal('home', '--steps', '--quietly').message).toContain('--steps: it needs a value');
    expect(refusal('home', '--steps').message).toContain('it needs a value');
    expect(refusal('home', '--gait=').message).toContain('it needs a value');
  });

  it('refuses a value for a flag, and a second value for an option that takes one', () => {
    expect(refusal('home', '--quietly=yes').message).toContain('it takes no value');
    expect(refusal('home', '--steps', '1', '--steps', '2').message).toContain('once');
  });

  it('requires every positional, and refuses more', () => {
    expect(refusal().message).toContain('WHERE: "twinpath walk" needs one');
    expect(refusal('home', 'work').message).toContain('work');
    expect(parse(TABLE, ['--help']).flags.has('help')).toBe(true);
    expect(parse(TABLE, ['-h']).flags.has('help')).toBe(true);
  });

  it('takes arguments after -- as positionals', () => {
    expect(parse(TABLE, ['--', '--steps']).positionals).toEqual(['--steps']);
  });

  it('takes only whole numbers in their range', () => {
    for (const wrong of ['0', '11', '1.5', '-3', '1e1', '0x3', ' 5', 'many']) {
      const args = parse(TABLE, ['home', `--steps=${wrong}`]);
      expect(() => whole(args, 'steps', 1, 10), wrong).toThrow(/from 1 to 10/);
    }
  });

  it('suggests the nearest allowed word', () => {
    const args = parse(TABLE, ['home', '--gait', 'trt']);
    expect(() => oneOf(args, 'gait', ['trot', 'canter'])).toThrow(/Did you mean trot\?/);
    expect(oneOf(args, 'nothing', ['trot'])).toBeUndefined();
  });

  it('collects pairs, and parses values that are JSON', () => {
    const args = parse(TABLE, [
      'home',
      ...['--option', 'address=10.0.0.5', '--option', 'port=7', '--option', 'deep={"a":[1]}'],
      ...['--option', 'text="7"', '--option', 'equation=a=b', '--option', 'empty='],
    ]);
    expect(pairs(args, 'option')).toEqual({
      address: '10.0.0.5',
      port: 7,
      deep: { a: [1] },
      text: '7',
      equation: 'a=b',
      empty: '',
    });
    expect(() => pairs(parse(TABLE, ['home', '--option', 'port']), 'option')).toThrow(/key=value/);
    const twice = parse(TABLE, ['home', '--option', 'deny=tcp/22', '--option', 'deny=tcp/23']);
    expect(() => pairs(twice, 'option')).toThrow(/deny is there twice.*deny=A,B/);
  });

  it('suggests the nearest command', () => {
    expect(unknownCommand('dmeo', ['demo', 'list']).message).toContain('Did you mean "demo"?');
    expect(unknownCommand('xyzzyplugh', ['demo', 'list']).message).toContain('There are demo, list.');
  });
});

describe('help', () => {
  it('explains every option of every command, with examples and exit codes', () => {
    for (const { table } of [demo, list, run, tryHandler]) {
      const help = commandHelp(table);
      for (const name of Object.keys(table.options)) expect(help).toContain(`--${name}`);
      expect(help).toMatch(/Examples:\n {2}twinpath/);
      expect(help).toMatch(/Exit codes:\n {2}0 /);
      expect(generalHelp([table])).toContain(table.summary);
    }
  });
});

describe('a handler', () => {
  it('is a built-in one by its name, or a module by its path', () => {
    expect(handlerUrl('echo').href).toMatch(/handlers\/echo\.ts$/);
    expect(handlerUrl('./arguments.test.ts', import.meta.dirname).href).toBe(import.meta.url);
  });

  it('says in the help whether it needs one Ethernet, or in which mode', () => {
    const help = Object.fromEntries(BUILT_IN_HELP);
    expect([help.reflect, help.balance]).toEqual([
      'sends every packet back, by MAC address (*)',
      expect.stringMatching(/^spreads connections over backends \(\* in mode direct\): vip, /),
    ]);
    expect(help.gwlb).not.toContain('*');
  });

  it('has the options that the help names, and no others', async () => {
    for (const [name, text] of BUILT_IN_HELP) {
      const named = text.split(': ')[1]?.split(', ') ?? [];
      const { create }: HandlerModule = await import(handlerUrl(name).href);
      if (named.length === 0) {
        expect(() => checkOptionless(name, { zone: 1 })).toThrow(`zone. ${name} has no options.`);
        continue;
      }
      const context = workerContext({ macs: [] });
      const list = named.map((option) => `'${option}'`).join(', ');
      expect(() => create!({ xyzzyplugh: 1 }, context)).toThrow(`${name} has ${list}.`);
      checkOptionless(name, { xyzzyplugh: 1 });
    }
    checkOptionless('./handler.js', { zone: 1 });
  });

  it('with an unknown name is refused, and the error names the nearest handler', () => {
    expect(() => handlerUrl('refelct')).toThrow(/Did you mean "reflect"\?/);
    expect(() => handlerUrl('./missing.js')).toThrow(/there is no file \.\/missing\.js/);
  });

  it('gets the default address if it is built in, takes an address and has none', () => {
    expect(withAddress('echo', { port: 9 }, '10.77.0.2')).toEqual({ address: '10.77.0.2', port: 9 });
    expect(withAddress('dns', { address: '10.0.0.5' }, '10.77.0.2')).toEqual({ address: '10.0.0.5' });
    expect(withAddress('count', { top: 3 }, '10.77.0.2')).toEqual({ top: 3 });
    expect(withAddress('./handler.js', {}, '10.77.0.2')).toEqual({});
  });
});
