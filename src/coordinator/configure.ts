/**
 * Applying a port's configuration to its paths: to all that are open when it changes, to each one before its packets are let
 * in, and so again to a device that returns. Coordinator thread only, in the serial loop of reconcile.ts.
 */
import { type ConfigurationChange, changed, type PortConfiguration, rulesOf } from '../configuration.ts';
import { TwinpathError } from '../errors.ts';
import { Path } from '../memory/layout.ts';
import { nowNanos } from '../memory/shared.ts';
import type { PathDevice } from '../paths/device.ts';
import type { PortNetwork } from './network.ts';
import { type PortState, reportError } from './port-state.ts';
import type { Slot } from './slot.ts';

/** A change that waits for the loop. */
export interface ConfigurationOrder {
  readonly change: ConfigurationChange;
  readonly resolve: (configuration: PortConfiguration) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Applies a change to every open path. If one refuses, all get the configuration before again.
 *
 * The VF may reset itself for another MTU or MAC address: the workers send through the synthetic path meanwhile.
 */
export async function carryOut(
  state: PortState,
  { change, resolve, reject }: ConfigurationOrder,
): Promise<void> {
  if (state.closing) {
    reject(new TwinpathError('ERR_PORT_CLOSED'));
    return;
  }
  const before = state.configuration;
  const wanted = changed(before, change);
  if (wanted.mtu !== before.mtu || wanted.mac !== before.mac) await leaveVf(state);
  const open = state.slots.filter(({ device, broken }) => device !== undefined && broken === undefined);
  const refusal = applyTo(open, wanted) ?? exchangeRules(state, open, wanted);
  if (refusal !== undefined) {
    for (const slot of open.reverse()) configurePath(state, slot);
    reject(refusal);
    return;
  }
  for (const slot of open) slot.refusals = [];
  state.configuration = wanted;
  state.save();
  state.report({ kind: 'configured', event: { port: state.port, configuration: wanted } });
  resolve(wanted);
}

/** Gives the devices a configuration, until one refuses. @returns its first refusal */
function applyTo(open: readonly Slot[], wanted: PortConfiguration): TwinpathError | undefined {
  for (const { device } of open) {
    const [refusal] = device!.configure?.(wanted) ?? [];
    if (refusal !== undefined) return refusal;
  }
  return undefined;
}

/** Gives the devices the configuration's rules. @returns why that failed: then all have the rules before */
function exchangeRules(
  { network, save }: PortState,
  open: readonly Slot[],
  wanted: PortConfiguration,
): TwinpathError | undefined {
  try {
    giveRules(
      network,
      open.map(({ device }) => device!),
      wanted,
      save,
    );
    return undefined;
  } catch (error) {
    if (error instanceof TwinpathError) return error;
    throw error;
  }
}

/** Before the first path is opened: devices are made with the rules. @throws TwinpathError */
export function startRules({ network, configuration, save }: PortState): void {
  giveRules(network, [], configuration, save);
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

/** Gives one path the port's configuration. What its device refuses is reported, and in the path's description. */
export function configurePath(state: PortState, slot: Slot): void {
  slot.refusals = slot.device?.configure?.(state.configuration) ?? [];
  for (const refusal of slot.refusals) reportError(state, refusal);
}

/** Has the workers send through the synthetic path, if it is open. The loop gives the VF its queues back. */
async function leaveVf({ ownership, slots }: PortState): Promise<void> {
  const synthetic = slots.find(({ path }) => path === Path.SYNTHETIC)!;
  if (ownership.owner !== Path.VF || !synthetic.ready || synthetic.broken !== undefined) return;
  await ownership.setOwner(Path.SYNTHETIC, 'configured', nowNanos());
}
