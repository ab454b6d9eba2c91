/** What a port on real devices is made with, and what another coordinator makes it from: see kernel-network.ts. */
import type { TwinpathError } from '../errors.ts';
import type { HeldRules } from '../kernel/kernel-rules.ts';
import type { Link } from '../kernel/rtnetlink.ts';
import type { SettingsStore } from '../kernel/settings-store.ts';
import type { HostMode, RssMode } from '../options.ts';
import type { TapOptions } from '../paths/tap/device.ts';
import type { MergingOptions } from '../paths/tap/merging.ts';
import type { RedirectKind, RedirectOrder } from '../paths/tc-attachments.ts';
import type { KindName } from './kinds.ts';
import type { HeldMacFilter } from './port-mac-filter.ts';

export interface KernelOptions {
  readonly tap: Omit<TapOptions, keyof MergingOptions>;
  readonly redirect: RedirectKind;
  readonly order: RedirectOrder;
  /** Whether the port uses a VF. */
  readonly vf: boolean;
  /** No generic XDP for the VF. */
  readonly native: boolean;
  readonly host: HostMode;
  readonly rss: RssMode;
  readonly rssKey: Uint8Array;
  readonly store: SettingsStore;
  /** Reports an error that the port goes on without; called once per error. */
  readonly report: (error: TwinpathError) => void;
}

export interface KernelHoldings {
  readonly netvsc: Link;
  readonly kind: KindName;
  readonly protect: boolean;
  readonly addresses: readonly [first: string, last: string];
  readonly rules?: HeldRules | undefined;
  readonly macFilter?: HeldMacFilter | undefined;
}
