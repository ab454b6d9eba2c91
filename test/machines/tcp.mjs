/**
 * TCP of the guest's own stack: a server that sends each connection the same bytes, in the guest, and a client of the outside
 * host's that fetches them again and again, and says what was wrong with them.
 */

import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { createServer } from 'node:net';
import { netvscName, rig, until } from './machine.mjs';

const PORT = 8080;
/** Where numbered traffic goes. */
const ECHO_PORT = 7;
const BYTES = Buffer.alloc(200_000, 'twinpath');
for (let i = 0; i < BYTES.length; i += 997) BYTES[i] = i % 251;
const DIGEST = createHash('sha256').update(BYTES).digest('hex');

/** The outside host's side, a program of Node on one line: fetches until a file is there that says that it is enough. */
const CLIENT = `
const net = require("node:net"), fs = require("node:fs"), { createHash } = require("node:crypto");
let good = 0, bad = [];
const again = () => {
  if (fs.existsSync(process.env.T + "/tcp-enough")) return fs.writeFileSync(process.env.T + "/tcp-done", JSON.stringify({ good, bad }));
  const hash = createHash("sha256"); let bytes = 0;
  net.connect(${PORT}, "10.77.0.2").on("data", (data) => { hash.update(data); bytes += data.length; })
    .on("error", (error) => bad.push(error.code))
    .on("close", () => { hash.digest("hex") === "${DIGEST}" ? good++ : bad.push(bytes + " bytes"); again(); });
};
again();`.replaceAll('\n', ' ');

export async function serve() {
  const netvsc = netvscName();
  const address = `ip addr add 10.77.0.2/24 dev ${netvsc}`;
  const neighbour = `ip neigh replace 10.77.0.1 lladdr 02:00:00:00:00:99 dev ${netvsc} nud permanent`;
  execFileSync('bash', ['-ec', `${address}; ${neighbour}`]);
  let served = 0;
  const server = createServer((socket) => {
    socket.on('error', () => {}); // the client says so
    socket.end(BYTES, () => served++);
  });
  await new Promise((resolve) => server.listen(PORT, resolve));
  const echo = createSocket('udp4').on('message', (bytes, { port, address }) =>
    echo.send(bytes, port, address),
  );
  await new Promise((resolve) => echo.bind(ECHO_PORT, resolve));
  return {
    /** Until two more connections have had their bytes: the second was begun after this call. */
    served: async () => {
      const before = served;
      await until('two more downloads', () => served >= before + 2);
    },
    close() {
      server.close();
      echo.close();
      execFileSync('ip', ['addr', 'flush', 'dev', netvsc]);
    },
  };
}

/** Begins to fetch. What it returns ends that, and resolves with what went wrong. */
export async function download() {
  await rig.ask('out rm -f $T/tcp-enough $T/tcp-done');
  await rig.ask(`out node -e '${CLIENT}' </dev/null >/dev/null 2>&1 &`);
  return async () => {
    await rig.ask('out touch $T/tcp-enough');
    let said = '';
    await until('the client has ended', async () => {
      said = await rig.ask('out cat $T/tcp-done 2>/dev/null || true');
      return said !== '';
    });
    const { good, bad } = JSON.parse(said);
    return [...(good < 8 ? [`${good} downloads`] : []), ...bad.map((what) => `a download failed: ${what}`)];
  };
}
