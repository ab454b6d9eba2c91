/**
 * The outside host: numbered traffic from its own kernel stack to the guest, and the ledger of it. Runs in the namespace of
 * the outside host, as a child of rig.mjs: `look` and `stop` come by the channel between them, and answers go back.
 */
import { Traffic } from '../../dist/src/lab/traffic.js';

const options = JSON.parse(process.argv[2]);
const here = { outside: '/proc/self/ns/net' };
const traffic = await Traffic.start(here, { guestAddress: '10.77.0.2' }, options);

process.on('message', async (order) => {
  if (order === 'look') process.send(traffic.progress());
  else {
    const { lostAt, icmpLostAt, ...report } = await traffic.stop({ settleMillis: 20_000 });
    process.send({ ...report, lostAt: [...lostAt] }, () => process.exit());
  }
});
process.on('disconnect', () => process.exit());
process.send('ready');
