/// <reference types="node" preserve="true" />
/** The interface for applications: `import { openPort } from 'twinpath'`. */
export type { ConfigurationChange, IdleMode, PortConfiguration } from './configuration.ts';
export type { PortDescription } from './coordinator/messages.ts';
export type { PathInformation, PortInformation } from './coordinator/port-information.ts';
export type { DeliveredBurst, DeliveredPacket } from './delivered-burst.ts';
export type { DeliveryOptions } from './delivery.ts';
export { type ErrorCode, type PlainError, TwinpathError } from './errors.ts';
export type { DeviceStatistics, ExtendedStatistics } from './extended-statistics.ts';
export type { FlowRules } from './flow-rules.ts';
export type { FrameLedger } from './group.ts';
export type { PacketView } from './handler/packet-view.ts';
export type { DeviceInformation, LinkState, Offload, OffloadName } from './kernel/device-information.ts';
export type { RuleCounts } from './kernel/kernel-rules.ts';
export type { XdpAbilities } from './kernel/netdev-netlink.ts';
export type { Count } from './kernel/rule-maps.ts';
export type { Failover, Reason } from './memory/journal.ts';
export type {
  ForwardTarget,
  HostMode,
  OpenPortOptions,
  OpenPortsOptions,
  PcapNetwork,
  PortOptions,
  RssMode,
  SharedOptions,
} from './options.ts';
export type { Ability, PortCapability } from './paths/capability.ts';
export type { PathDescription } from './paths/device.ts';
export { openPort, openPorts, type Port } from './port.ts';
export type { CarrierEvent, LinkEvent, MaintenanceEvent, WorkerEvent } from './port-events.ts';
export type { PortRss } from './port-rss.ts';
export type { Played, ReplayReport } from './replay/replay.ts';
export type { HashType, RssChange, RssConfiguration } from './rss/configuration.ts';
export type { FlowRule, FragmentMatch, PortRange, ProtocolName, RuleAction } from './rules/rule.ts';
export type { PathStatistics, PortStatistics, QueueStatistics } from './statistics.ts';
