/**
 * Checks rules, as texts or objects, and puts them in the order in which they are tried. Pure; any thread.
 *
 * A rule that can match no packet is an error: it is a mistake that would otherwise show only in what does not happen.
 */
import { EtherType, LOWEST_TYPE } from '../net/ethernet.ts';
import { AUTHENTICATION } from '../net/ip.ts';
import { invalid, nearest, oneOf, onlyKnown, plainObject, wholeNumber } from '../validation.ts';
import { stepsOf } from './plan.ts';
import { prefixOf } from './prefix.ts';
import {
  ACTIONS,
  type DefaultAction,
  type FlowRule,
  FRAGMENTS,
  PROTOCOLS,
  type Prefix,
  type Range,
  type Rule,
  type RuleSet,
  TCP_FLAGS,
} from './rule.ts';
import { ruleOfText } from './text.ts';

/** More than any table of routes: a mistake. */
const MAX_RULES = 65_536;
/** In all rules together. Each takes about 100 bytes of kernel memory. */
const MAX_PREFIXES = 1_048_576;
/** Headers of IPv6 that are passed over: hop-by-hop and destination options, routing, fragment (RFC 8200, section 4). */
const EXTENSIONS = [0, 43, 44, 60];
const DEFAULT_PRIORITY = 1000;
const KEYS: readonly (keyof FlowRule)[] = [
  'action',
  'priority',
  'etherType',
  'vlan',
  'ip',
  'protocol',
  'src',
  'dst',
  'srcPort',
  'dstPort',
  'port',
  'tcpFlags',
  'fragment',
];
const { TCP, UDP } = { TCP: PROTOCOLS.tcp, UDP: PROTOCOLS.udp };

/**
 * @param option names the list in errors: 'rules' is `rules[2]` for its third rule
 * @param rules texts and objects
 * @throws ERR_OPTION_INVALID, ERR_OPTION_UNKNOWN
 */
export function checkRules(option: string, rules: unknown, otherwise: DefaultAction): RuleSet {
  if (!Array.isArray(rules))
    invalid(option, 'it must be a list of rules', `As ['udp dst port 53 to handler'].`);
  const list = rules as readonly unknown[];
  if (list.length > MAX_RULES) invalid(option, `${list.length} rules are too many: ${MAX_RULES} is the most`);
  const checked = list.map((rule, index) => checkRule(`${option}[${index}]`, rule, index));
  const prefixes = checked.reduce((sum, { rule }) => sum + count(rule.src) + count(rule.dst), 0);
  if (prefixes > MAX_PREFIXES)
    invalid(option, `its rules have ${prefixes} prefixes; ${MAX_PREFIXES} is the most`);
  const sorted = checked.toSorted((a, b) => a.priority - b.priority); // stable: the order of the list among equals
  const set = { rules: sorted.map(({ rule }) => rule), otherwise };
  stepsOf(option, set); // throws if the kernel could not try them
  return set;
}

const count = (prefixes: readonly Prefix[] | undefined): number => prefixes?.length ?? 0;

function checkRule(option: string, given: unknown, index: number): { rule: Rule; priority: number } {
  const fields = typeof given === 'string' ? ruleOfText(option, given) : plainObject(option, given);
  onlyKnown(fields, KEYS, `Fields of a rule are ${KEYS.join(', ')}.`);
  const { action, priority, etherType, vlan, ip, protocol, fragment } = fields as Partial<FlowRule>;
  const at = (name: keyof FlowRule): string => `${option}.${name}`;
  const rule: Rule = {
    index,
    action: oneOf(at('action'), action, ACTIONS),
    etherType:
      etherType === undefined ? undefined : wholeNumber(at('etherType'), etherType, LOWEST_TYPE, 0xffff),
    vlan: vlan === undefined || vlan === 'none' ? vlan : wholeNumber(at('vlan'), vlan, 0, 4095),
    version: ip === undefined ? undefined : oneOf(at('ip'), ip, [4, 6]),
    protocol: protocolOf(at('protocol'), protocol),
    src: prefixesOf(at('src'), fields.src),
    dst: prefixesOf(at('dst'), fields.dst),
    srcPort: rangeOf(at('srcPort'), fields.srcPort),
    dstPort: rangeOf(at('dstPort'), fields.dstPort),
    port: rangeOf(at('port'), fields.port),
    tcpFlags: flagsOf(at('tcpFlags'), fields.tcpFlags),
    fragment: fragment === undefined ? undefined : oneOf(at('fragment'), fragment, FRAGMENTS),
  };
  const never = contradictionIn(rule);
  if (never !== undefined) {
    const subject = typeof given === 'string' ? `"${given}"` : 'it';
    invalid(option, `${subject} can match no packet: ${never}`);
  }
  return { rule, priority: wholeNumber(at('priority'), priority ?? DEFAULT_PRIORITY, 0, 0xffff) };
}

/** Why no packet can match; undefined if one can. */
function contradictionIn(rule: Rule): string | undefined {
  const { etherType, version, protocol, src, dst, tcpFlags, fragment } = rule;
  const [given, type] = [etherType !== undefined, etherType];
  const ofType = type === EtherType.IPV4 ? 4 : type === EtherType.IPV6 ? 6 : 0;
  const versions = [4, 6].filter(
    (one) => (version === undefined || version === one) && hasVersion(src, one) && hasVersion(dst, one),
  );
  const wantsPorts = [rule.srcPort, rule.dstPort, rule.port].some((range) => range !== undefined);
  const wantsIp =
    [version, protocol, src, dst, tcpFlags, fragment].some((field) => field !== undefined) || wantsPorts;
  if (versions.length === 0) return 'its addresses are of both versions of IP, or not of the version named';
  if (given && wantsIp && !versions.includes(ofType))
    return 'its EtherType is not that of its addresses or protocol';
  if (protocol !== undefined && protocol !== TCP) {
    if (tcpFlags !== undefined) return 'only TCP has flags';
    if (wantsPorts && protocol !== UDP) return 'only TCP and UDP have ports';
  }
  if (protocol === AUTHENTICATION) return 'authentication headers are passed over';
  if (version === 6 && EXTENSIONS.includes(protocol ?? -1))
    return 'it is an extension header, and those are passed over';
  if (fragment !== 'later') return undefined;
  if (wantsPorts) return 'later fragments show no ports';
  return tcpFlags === undefined ? undefined : 'later fragments show no TCP flags';
}

function hasVersion(prefixes: readonly Prefix[] | undefined, version: number): boolean {
  return prefixes?.some(({ address }) => address.length === (version === 4 ? 4 : 16)) ?? true;
}

function protocolOf(option: string, value: unknown): number | undefined {
  if (value === undefined) return undefined;
  if (typeof value === 'number') return wholeNumber(option, value, 0, 255);
  return PROTOCOLS[oneOf(option, value, Object.keys(PROTOCOLS) as (keyof typeof PROTOCOLS)[])];
}

function prefixesOf(option: string, value: unknown): Prefix[] | undefined {
  if (value === undefined) return undefined;
  const list: unknown[] = Array.isArray(value) ? value : [value];
  if (list.length === 0) invalid(option, 'the list of prefixes is empty');
  return list.map((text) => prefixOf(option, text));
}

function rangeOf(option: string, value: unknown): Range | undefined {
  if (value === undefined) return undefined;
  const [from, to, ...more]: unknown[] = Array.isArray(value) ? value : [value, value];
  if (more.length > 0) invalid(option, 'a range is two ports, the first and the last');
  const [first, last] = [from, to].map((port) => wholeNumber(option, port, 0, 0xffff, 'a port')) as [
    number,
    number,
  ];
  if (first > last) invalid(option, `${first} to ${last} is no range of ports`, `Give ${last} first.`);
  return { first, last };
}

/** 'syn/syn,ack': which are set, of which. Flags alone, 'syn,ack', are all set, and others do not matter. */
function flagsOf(option: string, value: unknown): Rule['tcpFlags'] {
  if (value === undefined) return undefined;
  const [set = '', of, ...more] = String(value).split('/');
  if (typeof value !== 'string' || more.length > 0) {
    invalid(
      option,
      `${String(value)} is not a set of TCP flags`,
      "Give it as 'syn/syn,ack': these are set, of these.",
    );
  }
  const bits = flagBits(option, set);
  const mask = of === undefined ? bits : flagBits(option, of);
  if (mask === 0)
    invalid(option, `${value} names no flag`, `Flags are ${Object.keys(TCP_FLAGS).join(', ')}.`);
  if ((bits & ~mask) !== 0)
    invalid(option, `${value} wants flags set that are not among those after the slash`);
  return { value: bits, mask };
}

function flagBits(option: string, names: string): number {
  if (names === '' || names === 'none') return 0;
  return names.split(',').reduce((bits, name) => {
    const bit = Object.entries(TCP_FLAGS).find(([flag]) => flag === name)?.[1];
    if (bit !== undefined) return bits | bit;
    const near = nearest(name, Object.keys(TCP_FLAGS));
    const hint =
      near === undefined ? `Flags are ${Object.keys(TCP_FLAGS).join(', ')}.` : `Did you mean "${near}"?`;
    return invalid(option, `"${name}" is not a TCP flag`, hint);
  }, 0);
}
