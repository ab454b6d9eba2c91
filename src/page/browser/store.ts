/** What the page has got from the server. Pure. */
import type { Hello, PortState, QueueSwitch, Sample, Update } from '../messages.ts';

export class Store {
  hello: Hello | undefined;
  ports: readonly PortState[] = [];
  /** Oldest first, as many as the server keeps. */
  samples: readonly Sample[] = [];
  switches: readonly QueueSwitch[] = [];

  greet(hello: Hello): void {
    this.hello = hello;
    if (hello.resumed) return;
    this.ports = [];
    this.samples = [];
    this.switches = [];
  }

  update({ samples, switches, ports }: Update): void {
    const { keptSamples, keptSwitches } = this.hello!;
    this.ports = ports;
    this.samples = [...this.samples, ...samples].slice(-keptSamples);
    if (switches.length > 0) this.switches = [...this.switches, ...switches].slice(-keptSwitches);
  }

  /** The time of the last sample; 0 before the first. */
  get nowNanos(): number {
    return this.samples.at(-1)?.nanos ?? 0;
  }

  /** Milliseconds since 1970. */
  wallMillis(nanos: number): number {
    return this.hello!.epochMillis + nanos / 1e6;
  }
}
