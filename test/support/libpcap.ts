/** libpcap's own answers about filters. It is there if test/peers.sh has installed it. */
import koffi, { type LibraryHandle } from 'koffi';

const DLT_EN10MB = 1;
const PCAP_NETMASK_UNKNOWN = 0xffffffff;
const NAMES = ['libpcap.so.0.8', 'libpcap.so.1', 'libpcap.so'];

/** A compiled filter. */
export interface PcapFilter {
  matches(packet: Uint8Array): boolean;
}

export interface Libpcap {
  readonly version: string;
  /** @throws Error with libpcap's message */
  compile(text: string): PcapFilter;
}

/** libpcap, or why it cannot be used. */
export function libpcap(): Libpcap | string {
  let library: LibraryHandle | undefined;
  for (const name of NAMES) {
    try {
      library = koffi.load(name);
      break;
    } catch {}
  }
  if (library === undefined) return 'libpcap is not installed: test/peers.sh installs it';
  const openDead = library.func('void *pcap_open_dead(int, int)');
  const compile = library.func('int pcap_compile(void *, void *, const char *, int, uint32_t)');
  const run = library.func('int pcap_offline_filter(void *, void *, void *)');
  const failure = library.func('const char *pcap_geterr(void *)');
  const version = library.func('const char *pcap_lib_version()');
  const handle = openDead(DLT_EN10MB, 262_144);
  return {
    version: version(),
    compile(text) {
      const program = new Uint8Array(16); // struct bpf_program; it lives as long as the process
      // Without the optimizer, which leaves out loads whose value does not matter: they end a filter on a short packet.
      if (compile(handle, program, text, 0, PCAP_NETMASK_UNKNOWN) !== 0) throw new Error(failure(handle));
      return {
        matches(packet) {
          const header = new Uint8Array(24); // struct pcap_pkthdr: a timeval, caplen, len
          new Uint32Array(header.buffer).set([packet.length, packet.length], 4);
          return run(program, header, packet) !== 0;
        },
      };
    },
  };
}
