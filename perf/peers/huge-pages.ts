/**
 * Huge pages for DPDK: reserved while something needs them, and given back.
 *
 * Without them DPDK's packets lie in pages of 4 KiB and its in-memory rings are several times slower, which
 * would flatter us. Needs root. The kernel frees only pages that nobody uses, and may find fewer than asked for
 * (Documentation/admin-guide/mm/hugetlbpage.rst).
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { TwinpathError } from '../../src/errors.ts';

const RESERVED = '/proc/sys/vm/nr_hugepages';

export class HugePages {
  readonly #before = reserved();

  /** Makes sure that this many pages of the default size are free. @throws ERR_KERNEL */
  reserve(pages: number): void {
    const lacking = pages - count('HugePages_Free');
    if (lacking <= 0) return;
    writeFileSync(RESERVED, String(reserved() + lacking));
    const free = count('HugePages_Free');
    if (free >= pages) return;
    throw new TwinpathError('ERR_KERNEL', {
      device: RESERVED,
      detail: `only ${free} of ${pages} huge pages could be reserved`,
      hint: 'Free memory, or reserve them when the machine starts (hugepages= on the kernel command line).',
    });
  }

  /** As many as there were before. */
  restore(): void {
    if (reserved() !== this.#before) writeFileSync(RESERVED, String(this.#before));
  }
}

/** NB: not HugePages_Total, which has pages beyond it while a program that ends still holds them. */
const reserved = (): number => Number(readFileSync(RESERVED, 'utf8'));

function count(what: string): number {
  const found = new RegExp(`^${what}:\\s+(\\d+)`, 'm').exec(readFileSync('/proc/meminfo', 'utf8'));
  return Number(found?.[1] ?? 0);
}
