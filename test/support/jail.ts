/** A program that runs another under a list of system calls, as a container runtime or systemd does: everything else is refused. */
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { temporary } from './process.ts';

/** A rule of a seccomp profile, in the form of the OCI's runtime specification. */
export interface SeccompRule {
  readonly names: readonly string[];
  readonly action: 'SCMP_ACT_ALLOW' | 'SCMP_ACT_ERRNO';
  readonly errnoRet?: number;
  /** One at most: these bits of that argument must be 0. */
  readonly args?: readonly { readonly index: number; readonly value: number; readonly op: string }[];
}

/** The system call is in the accumulator before it, and after it. */
function ruleOf({ action, errnoRet = 1, args = [] }: SeccompRule, name: string): string {
  const result = action === 'SCMP_ACT_ALLOW' ? 'SECCOMP_RET_ALLOW' : `SECCOMP_RET_ERRNO | ${errnoRet}`;
  const [masked] = args;
  const condition = `BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_${name}, 0,`;
  const lines =
    masked === undefined
      ? [`${condition} 1),`, `BPF_STMT(BPF_RET | BPF_K, ${result}),`]
      : [
          `${condition} 4),`,
          `BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[${masked.index}])),`,
          `BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, ${masked.value}u, 1, 0),`,
          `BPF_STMT(BPF_RET | BPF_K, ${result}),`,
          'BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),',
        ];
  // An architecture need not have every call.
  return [`#ifdef __NR_${name}`, ...lines, '#endif'].join('\n');
}

/** Compiles it. The program is run with the words that follow. */
export function jail(rules: readonly SeccompRule[]): string {
  const folder = temporary();
  const source = join(folder, 'jail.c');
  const steps = rules.flatMap((rule) => rule.names.map((name) => ruleOf(rule, name)));
  writeFileSync(
    source,
    `#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>
int main(int count, char **words)
{
struct sock_filter steps[] = {
BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
${steps.join('\n')}
BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
};
struct sock_fprog program = { sizeof(steps) / sizeof(*steps), steps };
if (count < 2 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
	return 99;
execvp(words[1], words + 1);
return 98;
}
`,
  );
  const program = join(folder, 'jail');
  execFileSync('cc', ['-o', program, source]);
  return program;
}
