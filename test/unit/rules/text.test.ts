/** Rules as text: what they mean, and what is said of wrong ones. */
import { describe, expect, it } from 'vitest';
import { TwinpathError } from '../../../src/errors.ts';
import { checkRules } from '../../../src/rules/check.ts';
import { ruleOfText } from '../../../src/rules/text.ts';

const read = (text: string): unknown => ruleOfText('rule', text);

function refusal(rule: unknown): string {
  try {
    checkRules('rules', [rule], 'handler');
  } catch (error) {
    expect(error).toBeInstanceOf(TwinpathError);
    return `${(error as TwinpathError).code} ${(error as TwinpathError).message}`;
  }
  throw new Error(`${JSON.stringify(rule)} was accepted`);
}

describe('a rule as text', () => {
  it.each([
    ['udp dst port 53 to handler', { action: 'handler', protocol: 'udp', dstPort: 53 }],
    ['handler', { action: 'handler' }],
    [
      'src 10.0.0.0/8 tcp dst port 22 to kernel',
      { action: 'kernel', src: '10.0.0.0/8', protocol: 'tcp', dstPort: 22 },
    ],
    ['ip6 src 2001:db8::/32 drop', { action: 'drop', ip: 6, src: '2001:db8::/32' }],
    ['ether type 0x88cc to kernel', { action: 'kernel', etherType: 0x88cc }],
    ['ether type arp count', { action: 'count', etherType: 0x0806 }],
    [
      'vlan 5 udp port 1000-2000 to handler',
      { action: 'handler', vlan: 5, protocol: 'udp', port: [1000, 2000] },
    ],
    ['vlan none drop', { action: 'drop', vlan: 'none' }],
    ['tcp flags syn/syn,ack count', { action: 'count', protocol: 'tcp', tcpFlags: 'syn/syn,ack' }],
    ['priority 5 proto 47 src port 1 drop', { action: 'drop', priority: 5, protocol: 47, srcPort: 1 }],
    ['fragment later to kernel', { action: 'kernel', fragment: 'later' }],
    ['src in {10.0.0.1,10.0.0.2} drop', { action: 'drop', src: ['10.0.0.1', '10.0.0.2'] }],
    [' dst  in { 10.0.0.1 ,\n 2001:db8::1 }\tdrop ', { action: 'drop', dst: ['10.0.0.1', '2001:db8::1'] }],
  ])('%o is %o', (text, rule) => {
    expect(read(text)).toEqual(rule);
  });

  it.each([
    ['', 'rules[0]: it is empty'],
    ['udp dst port 53', 'it has no action at its end. Allowed here: to, handler, kernel, drop, count.'],
    ['upd dst port 53 to handler', '"upd", its word 1, is not known here. Did you mean "udp"?'],
    ['udp dst prot 53 to handler', '"prot", its word 3, is not a prefix. Did you mean "port"?'],
    [
      'udp dst port dns to handler',
      '"dns", its word 4, is not a port. Allowed here: a port, as 53 or 1000-2000.',
    ],
    ['udp dst port 53 to handlr', '"handlr", its word 6, is not known here. Did you mean "handler"?'],
    ['udp to handler queue 2', '"queue", its word 4, stands after the action, which ends a rule'],
    ['10.0.0.1 drop', '"10.0.0.1", its word 1, stands without "src" or "dst" before it'],
    ['udp udp drop', '"udp", its word 2, says protocol a second time'],
    ['src in 10.0.0.1 drop', '"10.0.0.1", its word 3, is not known here. Allowed here: {.'],
    ['src in {10.0.0.1 drop', 'its list has no end. Allowed here: }.'],
    ['src in {10.0.0.1, ten} drop', '"ten" in its list is not a prefix'],
    ['src in {} drop', 'rules[0].src: the list of prefixes is empty'],
    ['ether 0x88cc drop', '"0x88cc", its word 2, is not known here. Allowed here: type.'],
    ['ether type ipv5 drop', '"ipv5", its word 3, is not an EtherType. Did you mean "ipv4"?'],
    ['vlan', 'it ends too early. Allowed here: a number, none.'],
    ['tcp flags', 'it ends too early. Allowed here: TCP flags, as syn/syn,ack.'],
    ['to', 'it ends too early. Allowed here: handler, kernel, drop, count.'],
  ])('%o is refused: %s', (text, why) => {
    const message = refusal(text);
    expect(message).toContain('ERR_OPTION_INVALID');
    expect(message).toContain(why);
  });
});

describe('a rule', () => {
  it.each([
    [{ action: 'pass' }, 'rules[0].action: it must be one of handler, kernel, drop, count'],
    [
      { action: 'drop', dport: 53 },
      'ERR_OPTION_UNKNOWN There is no such option: dport. Did you mean "port"?',
    ],
    [{ action: 'drop', priority: -1 }, 'rules[0].priority: it must be a whole number from 0 to 65535'],
    [{ action: 'drop', etherType: 46 }, 'rules[0].etherType'],
    [{ action: 'drop', vlan: 4096 }, 'rules[0].vlan: it must be a whole number from 0 to 4095'],
    [{ action: 'drop', ip: 5 }, 'rules[0].ip: it must be one of 4, 6'],
    [{ action: 'drop', protocol: 'sctp' }, 'rules[0].protocol: it must be one of icmp, tcp, udp, icmp6'],
    [{ action: 'drop', protocol: 256 }, 'rules[0].protocol'],
    [
      { action: 'drop', src: '10.0.0.1/8' },
      'has bits after its prefix of 8. Give the network, or only the address.',
    ],
    [{ action: 'drop', src: '10.0.0.0/33' }, 'has more than the 32 bits of its address'],
    [{ action: 'drop', dst: ['10.0.0.0/8', 'x'] }, 'rules[0].dst: x is not a prefix'],
    [{ action: 'drop', port: 65536 }, 'rules[0].port: 65536 is not a port'],
    [{ action: 'drop', port: [5, 4] }, '5 to 4 is no range of ports'],
    [{ action: 'drop', port: [1, 2, 3] }, 'a range is two ports'],
    [{ action: 'drop', tcpFlags: 'sny' }, '"sny" is not a TCP flag. Did you mean "syn"?'],
    [{ action: 'drop', tcpFlags: 'syn,ack/syn' }, 'wants flags set that are not among those after the slash'],
    [{ action: 'drop', tcpFlags: 'none' }, 'names no flag'],
    [{ action: 'drop', fragment: 'first' }, 'rules[0].fragment: it must be one of any, later, none'],
    [7, 'rules[0]: it must be an object'],
  ])('%o is refused: %s', (rule, why) => {
    expect(refusal(rule)).toContain(why);
  });

  it.each([
    ['ip src 2001:db8::1 drop', 'of both versions of IP, or not of the version named'],
    ['src 10.0.0.1 dst 2001:db8::1 drop', 'of both versions of IP'],
    ['ether type arp udp drop', 'its EtherType is not that of its addresses or protocol'],
    ['ether type ipv4 ip6 drop', 'its EtherType is not that of its addresses or protocol'],
    ['icmp port 5 drop', 'only TCP and UDP have ports'],
    ['udp flags syn drop', 'only TCP has flags'],
    ['udp dst port 53 fragment later drop', 'later fragments show no ports'],
    ['flags syn fragment later drop', 'later fragments show no TCP flags'],
  ])('that can match no packet is refused: %o, because %s', (text, why) => {
    expect(refusal(text)).toContain(`"${text}" can match no packet: `);
    expect(refusal(text)).toContain(why);
  });

  it('comes by its priority, and among equals in the order of the list', () => {
    const texts = [
      'tcp drop',
      'priority 7 udp drop',
      'icmp drop',
      'priority 1000 icmp6 drop',
      'priority 1001 drop',
    ];
    expect(checkRules('rules', texts, 'handler').rules.map(({ index }) => index)).toEqual([1, 0, 2, 3, 4]);
  });

  it('is one of a list', () => {
    expect(() => checkRules('rules', 'udp drop', 'handler')).toThrow('rules: it must be a list of rules');
  });
});
