/**
 * Applying a port's configuration to its paths: to all that are open when it changes, to each one before its packets are let
 * in, and so again to a device that returns. Coordinator thread only, in the serial loop of reconcile.ts.
 */
import { type CheckedChange, changed, type PortConfiguration, rulesOf } from '../configuration.ts';
import { TwinpathError } from '../errors.ts';
import { Path } from '../memory/layout.ts';
import { nowNanos } from '../memory/shared.ts';
import type { PathDevice } from '../paths/device.ts';
import type { PortNetwork } from './network.ts';
import { isSameRules } from './port-rules.ts';
import { attempt, type PortState, reportError } from './port-state.ts';
import { workerConfiguration } from './queue-spread.ts';
import type { Slot } from './slot.ts';

/** A change that waits for the loop. */
export interface ConfigurationOrder {
  readonly change: CheckedChange;
  /** Whether another program has made it on the NetVSC: then it stays, and the VF gets what it takes of it. */
  readonly followed?: boolean;
  readonly resolve: (configuration: PortConfiguration) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Applies a change to every open path. If one refuses, all get the configuration before again.
 *
 * The VF may reset itself for it: the workers send through the synthetic path meanwhile.
 */
export async function carryOut(state: PortState, order: ConfigurationOrder): Promise<void> {
  const { change, resolve, reject } = order;
  if (state.closing) {
    reject(new TwinpathError('ERR_PORT_CLOSED'));
    return;
  }
  const before = state.configuration;
  const wanted = changed(before, change);
  try {
    if (mayReset(before, wanted)) await leaveVf(state);
  } catch (error) {
    reject(error);
    return;
  }
  const open = state.slots.filter(({ device, broken }) => device !== undefined && broken === undefined);
  const refusal = widenFilter(state, wanted) ?? applyTo(open, wanted) ?? exchangeRules(state, open, wanted);
  if (refusal !== undefined && order.followed !== true) {
    for (const slot of open.reverse()) attempt(state, 'configuring a path', () => configurePath(state, slot));
    followMacs(state, true);
    reject(refusal);
    return;
  }
  // The devices come first: one that spreads by itself may refuse. Of a stopped queue, the last step comes after the workers.
  if (concernsWorkers(change)) await state.spread(workerConfiguration(wanted));
  for (const slot of open) attempt(state, 'stopping queues', () => slot.device!.stopQueues?.());
  state.configuration = wanted;
  followMacs(state, true);
  if (refusal !== undefined) reportError(state, refusal);
  state.save();
  state.report({ kind: 'configured', event: { port: state.port, configuration: wanted } });
  resolve(wanted);
}

/** Whether workers carry out a part of the change. */
export const concernsWorkers = ({ rss, queues, mode, started }: CheckedChange): boolean =>
  rss !== undefined || queues !== undefined || mode !== undefined || started !== undefined;

/** Drivers may rebuild a device's queues for another MTU or MAC address, and some (mana, bnxt) for another XDP program. */
function mayReset(before: PortConfiguration, wanted: PortConfiguration): boolean {
  if (wanted.mtu !== before.mtu || wanted.mac !== before.mac) return true;
  return !isSameRules(rulesOf(before), rulesOf(wanted));
}

/**
 * Gives the devices a configuration, until one refuses what it had not refused before.
 *
 * @returns that refusal, or what was thrown
 */
function applyTo(open: readonly Slot[], wanted: PortConfiguration): unknown {
  for (const slot of open) {
    const known = new Set(slot.refusals.map(({ message }) => message));
    try {
      const refusals = slot.device!.configure?.(wanted) ?? [];
      const news = refusals.find(({ message }) => !known.has(message));
      if (news !== undefined) return news;
      slot.refusals = refusals;
    } catch (error) {
      return error;
    }
  }
  return undefined;
}

/** Gives the devices the configuration's rules. @returns why that failed: then all have the rules before */
function exchangeRules(
  { network, save }: PortState,
  open: readonly Slot[],
  wanted: PortConfiguration,
): unknown {
  try {
    giveRules(
      network,
      open.map(({ device }) => device!),
      wanted,
      save,
    );
    return undefined;
  } catch (error) {
    return error;
  }
}

/** Before the first path is opened: devices are made with the rules and the MAC filter. @throws TwinpathError */
export function startFilters({ network, configuration, save }: PortState): void {
  giveRules(network, [], configuration, save);
  network.macFilter?.open();
  save();
  if (configuration.macFilter) requireFilter(network);
  network.macFilter?.set(configuration, false);
}

/**
 * Has the MAC filter accept what the configuration asks for and the addresses that the port's devices have now.
 *
 * @param asked as for `PortMacFilter.set`
 */
export function followMacs(state: PortState, asked = false): void {
  const { network, configuration } = state;
  attempt(state, 'following MAC addresses', () => network.macFilter?.set(configuration, asked));
}

/** Has the MAC filter accept what will be asked for too. @returns why that failed */
function widenFilter({ network }: PortState, wanted: PortConfiguration): unknown {
  try {
    if (wanted.macFilter) requireFilter(network);
    network.macFilter?.widen(wanted);
    return undefined;
  } catch (error) {
    return error;
  }
}

/** @throws ERR_OPTION_INVALID */
function requireFilter({ macFilter, device }: PortNetwork): void {
  if (macFilter !== undefined) return;
  throw new TwinpathError('ERR_OPTION_INVALID', {
    device: 'macFilter',
    detail: `${device} is no device of the kernel, which filters`,
    hint: "Open the port with network: 'kernel', or have the handler decide.",
  });
}

function giveRules(
  { rules, device }: PortNetwork,
  devices: readonly PathDevice[],
  wanted: PortConfiguration,
  save: () => void,
): void {
  const given = rulesOf(wanted);
  rules?.exchange(given, devices, save);
  if (rules !== undefined || given === undefined) return;
  throw new TwinpathError('ERR_OPTION_INVALID', {
    device: 'rules',
    detail: `${device} is no device of the kernel, which tries the rules`,
    hint: "Open the port with network: 'kernel', or have the handler decide.",
  });
}

/** The same, and its rules, to a VF that stayed open while it was left. @throws TwinpathError: the path is to be closed */
export function reconfigurePath(state: PortState, slot: Slot): void {
  configurePath(state, slot);
  slot.device?.setRules?.(state.network.rules?.current);
}

/** Gives one path the port's configuration. What its device refuses is reported, and in the path's description. */
export function configurePath(state: PortState, slot: Slot): void {
  slot.refusals = slot.device?.configure?.(state.configuration) ?? [];
  slot.device?.stopQueues?.();
  for (const refusal of slot.refusals) reportError(state, refusal);
}

/** Has the workers send through the synthetic path, if it is open. The loop gives the VF its queues back. */
async function leaveVf({ ownership, slots }: PortState): Promise<void> {
  const synthetic = slots.find(({ path }) => path === Path.SYNTHETIC)!;
  if (ownership.owner !== Path.VF || !synthetic.ready || synthetic.broken !== undefined) return;
  await ownership.setOwner(Path.SYNTHETIC, 'configured', nowNanos());
}
