/** The flow rules of a port, as the application has them: `Port.rules`. Belongs to the thread that opened the port. */
import type { ConfigurationChange, PortConfiguration } from './configuration.ts';
import type { RuleCounts } from './kernel/kernel-rules.ts';
import type { FlowRule } from './rules/rule.ts';

/** What a port's rules need of it. */
interface RuledPort {
  readonly configuration: PortConfiguration;
  configure(change: ConfigurationChange): Promise<PortConfiguration>;
}

const NONE: RuleCounts = {
  rules: [],
  otherwise: { packets: 0, bytes: 0 },
  overtagged: { packets: 0, bytes: 0 },
};

export class FlowRules {
  readonly #port: RuledPort;
  readonly #count: () => Promise<RuleCounts | undefined>;

  /** Use `Port.rules`. */
  constructor(port: RuledPort, count: () => Promise<RuleCounts | undefined>) {
    this.#port = port;
    this.#count = count;
  }

  /** The rules in force, as they were given. */
  list(): readonly (string | FlowRule)[] {
    return this.#port.configuration.rules;
  }

  /**
   * Exchanges all rules, on both paths: each packet meets the rules before or these. The counters begin at 0 if they differ
   * from the rules before. An empty list gives every packet to the handler, or with `isolate` to the machine's own stack.
   *
   * @throws ERR_OPTION_INVALID, ERR_OPTION_UNKNOWN, which name the rule; ERR_KERNEL, ERR_PERMISSION: both paths have the rules
   *   before; ERR_PORT_CLOSED
   */
  async set(rules: readonly (string | FlowRule)[]): Promise<void> {
    await this.#port.configure({ rules });
  }

  /**
   * Packets and bytes that each rule has counted, in the order of `list`; those that matched no rule; and those that were
   * dropped because of their number of VLAN tags. All are 0 while there are no rules and no `isolate`.
   *
   * @throws ERR_KERNEL, ERR_PORT_CLOSED
   */
  async counters(): Promise<RuleCounts> {
    return (await this.#count()) ?? NONE;
  }
}
