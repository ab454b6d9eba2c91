import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Assembler, type JumpOp, type Register } from '../../../src/kernel/assembler.ts';
import {
  tapFilter,
  tapSteering,
  tcCapture,
  tcCaptureWhilePresent,
  tcMarkedRedirect,
  tcRedirect,
  xdpRedirect,
} from '../../../src/kernel/programs.ts';

/** One slot a line, as `llvm-objdump -d` prints the bytes. */
function slots(code: Uint8Array): string[] {
  const hex = Buffer.from(code).toString('hex');
  return hex.match(/.{16}/g) ?? [];
}

describe('the assembler', () => {
  it('encodes the instructions as the kernel documents them', () => {
    const code = new Assembler()
      .mov(6, 1) // bf 16
      .movImm(0, -1)
      .alu('add', 3, 2)
      .aluImm('and', 0, 0xff)
      .swapBytes(4, 16)
      .loadB(0, 1, 1)
      .loadH(0, 1, 2)
      .loadW(2, 1, 16)
      .storeW(10, 7, -4)
      .call(51)
      .callKernel(66_152)
      .exit()
      .assemble();
    expect(slots(code)).toEqual([
      'bf16000000000000',
      'b7000000ffffffff',
      '0f23000000000000',
      '57000000ff000000',
      'dc04000010000000',
      '7110010000000000',
      '6910020000000000',
      '6112100000000000',
      '637afcff00000000',
      '8500000033000000',
      '8520000068020100',
      '9500000000000000',
    ]);
  });

  it('loads a map in two slots with the pseudo register that marks a descriptor', () => {
    expect(slots(new Assembler().loadMapFd(1, 7).assemble())).toEqual([
      '1811000007000000',
      '0000000000000000',
    ]);
  });

  it('counts a jump from the instruction after it, both slots of a map load included', () => {
    const code = new Assembler()
      .jeqImm(1, 5, 'end')
      .loadMapFd(1, 3)
      .jneImm(2, -1, 'end')
      .jumpIf('jgt', 3, 4, 'end')
      .jumpIf32Imm('jset', 5, 1, 'end')
      .jump('end')
      .movImm(0, 1)
      .label('end')
      .exit()
      .assemble();
    expect(slots(code).map((slot) => slot.slice(0, 8))).toEqual([
      '15010700',
      '18110000',
      '00000000',
      '55020400',
      '2d430300',
      '46050200',
      '05000100',
      'b7000000',
      '95000000',
    ]);
  });

  it('jumps backwards with a negative offset', () => {
    const code = new Assembler().label('top').aluImm('sub', 1, 1).jneImm(1, 0, 'top').exit().assemble();
    expect(slots(code)[1]).toBe('5501feff00000000');
  });

  it('lands every jump on its label, wherever both stand', () => {
    const ops: JumpOp[] = ['jeq', 'jgt', 'jge', 'jset', 'jne', 'jsgt', 'jsge', 'jlt', 'jle'];
    const step = fc.record({ op: fc.constantFrom(...ops), to: fc.nat(), wide: fc.boolean() });
    fc.assert(
      fc.property(fc.array(step, { minLength: 1, maxLength: 40 }), (steps) => {
        const assembler = new Assembler();
        const starts: number[] = [];
        let slot = 0;
        steps.forEach(({ op, to, wide }, index) => {
          assembler.label(`at ${index}`);
          starts.push(slot);
          slot += wide ? 3 : 1;
          if (wide) assembler.loadMapFd(1, 9);
          assembler.jumpIfImm(op, 2, index, `at ${to % steps.length}`);
        });
        const code = assembler.exit().assemble();
        const view = new DataView(code.buffer);
        steps.forEach(({ to, wide }, index) => {
          const jump = starts[index]! + (wide ? 2 : 0);
          const landing = jump + 1 + view.getInt16(jump * 8 + 2, true);
          expect(view.getInt32(jump * 8 + 4, true)).toBe(index);
          expect(landing).toBe(starts[to % steps.length]);
        });
      }),
      { numRuns: 50 },
    );
  });

  it('takes constants signed or unsigned, as the same 32 bits', () => {
    const signed = new Assembler().movImm(0, -0x3f580000).assemble();
    const unsigned = new Assembler().movImm(0, 0xc0a80000).assemble();
    expect(unsigned).toEqual(signed);
  });

  it('assembles the same code twice', () => {
    const assembler = new Assembler().jump('end').label('end').exit();
    expect(assembler.assemble()).toEqual(assembler.assemble());
  });

  it('refuses an instruction that cannot be encoded, and names it', () => {
    const eleven = 11 as Register;
    expect(() => new Assembler().mov(eleven, 0)).toThrow('11 is not a register');
    expect(() => new Assembler().mov(0, eleven)).toThrow('11 is not a register');
    expect(() => new Assembler().loadW(0, 1, 40_000)).toThrow('offset 40000 does not fit in 16 bits');
    expect(() => new Assembler().movImm(0, 2 ** 32)).toThrow('immediate 4294967296 does not fit in 32 bits');
    expect(() => new Assembler().movImm(0, -(2 ** 31) - 1)).toThrow('does not fit in 32 bits');
    expect(() => new Assembler().movImm(0, 0.5)).toThrow('immediate 0.5 is not an integer');
    expect(() => new Assembler().movImm(0, Number.NaN)).toThrow('immediate NaN');
    expect(() => new Assembler().label('a').label('a')).toThrow('label a is defined twice');
    expect(() => new Assembler().jump('nowhere').assemble()).toThrow('label nowhere is not defined');
    expect(() => new Assembler().jump('end').exit().label('end').assemble()).toThrow(
      'no instruction follows',
    );
  });
});

describe('the programs', () => {
  it('redirect by RX queue, and ask the gate when the slot is empty', () => {
    expect(slots(xdpRedirect(5, 6, 7))).toEqual([
      '6112100000000000', // r2 = ctx->rx_queue_index
      '1823000006000000', // r3 = *gate
      '0000000000000000',
      '6133000000000000',
      '1811000005000000', // r1 = map
      '0000000000000000',
      '8500000033000000', // bpf_redirect_map
      '5500040001000000', // if not XDP_DROP, done
      '1821000007000000', // lock *count += 1
      '0000000000000000',
      'b702000001000000',
      'db21000000000000',
      '9500000000000000',
    ]);
  });

  it('redirect to a device', () => {
    expect(slots(tcRedirect(300))).toEqual([
      'b70100002c010000',
      'b702000000000000',
      '8500000017000000',
      '9500000000000000',
    ]);
  });

  it('mark and redirect to either side of a device', () => {
    const program = (flags: string): string[] => [
      'b70200006d505774', // r2 = MARK
      '6321080000000000', // skb->mark = r2
      'b70100002c010000',
      `b7020000${flags}000000`,
      '8500000017000000',
      '9500000000000000',
    ];
    expect(slots(tcMarkedRedirect(300, 'egress'))).toEqual(program('00'));
    expect(slots(tcMarkedRedirect(300, 'ingress'))).toEqual(program('01'));
  });

  it('capture and mark all but the marked, whose mark they clear', () => {
    const marked = [
      '6112080000000000', // r2 = skb->mark
      '550204006d505774', // unless MARK, past the next four
      'b702000000000000',
      '6321080000000000', // skb->mark = 0
      'b7000000ffffffff', // TCX_NEXT
      '9500000000000000',
    ];
    const redirect = [
      'b70200006d505774',
      '6321080000000000', // skb->mark = MARK
      'b70100002c010000',
      'b702000000000000',
      '8500000017000000',
      '9500000000000000',
    ];
    expect(slots(tcCapture(300))).toEqual([...marked, ...redirect]);
    const clone = [
      'bf16000000000000',
      'bf27000000000000', // r7 = skb->mark
      'b70200006d505774',
      '6321080000000000', // skb->mark = MARK
      'b70200002c010000',
      'b703000000000000',
      '850000000d000000',
      '7600030000000000', // unless (s32)r0 >= 0:
      '6376080000000000', // skb->mark = r7
      'b7000000ffffffff',
      '9500000000000000',
      'b700000004000000', // TC_ACT_STOLEN
      '9500000000000000',
    ];
    expect(slots(tcCaptureWhilePresent(300))).toEqual([...marked, ...clone]);
    const own = [
      '6112040000000000', // r2 = skb->pkt_type
      '1502020000000000', // PACKET_HOST: past the next two
      'b7000000ffffffff',
      '9500000000000000',
    ];
    expect(slots(tcCapture(300, { own: true }))).toEqual([...own, ...marked, ...redirect]);
    expect(slots(tcCaptureWhilePresent(300, { own: true }))).toEqual([...own, ...marked, ...clone]);
  });

  it('tag a long packet that the kernel does not cut, and say whether its checksum was verified', () => {
    const tag = [
      'bf16000000000000',
      'b708000000000000', // r8: it has the tag
      '6112000000000000',
      'b5020c00fb060000', // unless skb->len > 1787, past the next twelve
      '6112b00000000000',
      '55020a0000000000', // unless skb->gso_size == 0
      'b702000000000000',
      '8500000087000000', // bpf_csum_level(skb, BPF_CSUM_LEVEL_QUERY)
      'b703000057740000',
      '7600010000000000', // unless (s32)r0 >= 0:
      'b703000056740000',
      'bf61000000000000',
      'b702000088a80000', // 0x88a8 in network order
      '8500000012000000', // bpf_skb_vlan_push
      '5500010000000000',
      'b708000001000000',
    ];
    expect(slots(tcCapture(300, { maxPacketBytes: 1787 })).slice(8)).toEqual([
      ...tag,
      'b70100002c010000',
      'b702000000000000',
      '8500000017000000',
      '9500000000000000',
    ]);
    // A filter may find the tap gone: then the tag goes too.
    expect(slots(tcCaptureWhilePresent(300, { maxPacketBytes: 1787 })).slice(10)).toEqual([
      ...tag,
      'bf61000000000000',
      'b70200002c010000',
      'b703000000000000',
      '850000000d000000',
      '7600060000000000',
      '6376080000000000', // skb->mark = r7
      '5508020001000000', // unless r8 == 1:
      'bf61000000000000',
      '8500000013000000', // bpf_skb_vlan_pop
      'b7000000ffffffff',
      '9500000000000000',
      'b700000004000000',
      '9500000000000000',
    ]);
  });

  it('let a tap receive marked packets only', () => {
    expect(slots(tapFilter())).toEqual([
      '6112080000000000', // r2 = skb->mark
      'b7000000ffffffff',
      '150201006d505774', // if MARK, all bytes
      'b700000000000000',
      '9500000000000000',
    ]);
  });

  it('steer by the recorded queue, or by the number as it stands', () => {
    expect(slots(tapSteering())).toEqual([
      '61100c0000000000',
      '1500020000000000',
      '1700000001000000',
      '9500000000000000',
      '6110440000000000',
      '9500000000000000',
    ]);
    expect(slots(tapSteering('raw'))).toEqual(['61100c0000000000', '9500000000000000']);
  });
});
