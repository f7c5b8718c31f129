// Sessions of Node's cluster clients: cluster.js ioredis|node-redis PORT, with NODE_PATH naming
// where the packages are.
//
// PORT is a core port. Prints "restart" when the server is to be started again with another number
// of cores, and "settled" when it has found the new cores, and each time goes on when a line comes
// to its standard input. Prints "passed" at the end, or fails with a stack.
'use strict';

const assert = require('node:assert');
const readline = require('node:readline');
const { setTimeout: sleep } = require('node:timers/promises');

const expect = assert.deepStrictEqual;
const KEYS = 1500;
const NAMES = Array.from({ length: KEYS }, (_, i) => `key:${i}`).sort();

const input = readline.createInterface({ input: process.stdin });
const lines = input[Symbol.asyncIterator]();

async function say(word) {
  console.log(word);
  await lines.next();
}

// Calls for each number, some at a time.
async function each(count, call) {
  for (let first = 0; first < count; first += 50) {
    const numbers = Array.from({ length: Math.min(50, count - first) }, (_, i) => first + i);
    await Promise.all(numbers.map(call));
  }
}

// Sets keys one after the other, again and again while the client looks for the new cores.
async function findAgain(set) {
  const deadline = Date.now() + 40_000;
  for (let done = 0; done < KEYS; ) {
    try {
      await set(`again:${done}`, String(done));
      done += 1;
    } catch (error) {
      if (Date.now() > deadline) throw error;
      await sleep(50);
    }
  }
}

async function ioredis(port) {
  const { Cluster } = require('ioredis');
  const client = new Cluster([{ host: '127.0.0.1', port }]);
  client.on('error', () => {});
  const all = async (call) => Promise.all(client.nodes('master').map(call));
  const size = async () => (await all((node) => node.dbsize())).reduce((a, b) => a + b, 0);
  await client.get('wait');
  await all((node) => node.flushall());
  await each(KEYS, async (i) => {
    expect(await client.set(`key:${i}`, i), 'OK');
    expect(await client.get(`key:${i}`), String(i));
  });
  expect(await size(), KEYS);
  expect((await all((node) => node.keys('*'))).flat().sort(), NAMES);
  const scanned = await all(async (node) => {
    const found = [];
    for await (const page of node.scanStream({ count: 50 })) found.push(...page);
    return found;
  });
  expect([...new Set(scanned.flat())].sort(), NAMES);
  expect(await client.mget('{t}a', '{t}b'), [null, null]);
  await assert.rejects(client.mget('key:1', 'key:2'), /slot/);
  const replies = await client.pipeline().set('{p}a', 1).incr('{p}a').exec();
  expect(replies, [[null, 'OK'], [null, 2]]);
  const transaction = await client.multi().set('{t}a', 1).incr('{t}a').exec();
  expect(transaction, [[null, 'OK'], [null, 2]]);
  await say('restart');
  await findAgain((key, value) => client.set(key, value));
  await say('settled');
  await each(KEYS, async (i) => expect(await client.get(`again:${i}`), String(i)));
  client.disconnect();
}

async function nodeRedis(port) {
  const { createCluster } = require('redis');
  const client = createCluster({ rootNodes: [{ url: `redis://127.0.0.1:${port}` }] });
  client.on('error', () => {});
  await client.connect();
  const all = async (call) =>
    Promise.all(client.masters.map(async (master) => call(await client.nodeClient(master))));
  await all((node) => node.flushAll());
  await each(KEYS, async (i) => {
    expect(await client.set(`key:${i}`, String(i)), 'OK');
    expect(await client.get(`key:${i}`), String(i));
  });
  expect((await all((node) => node.dbSize())).reduce((a, b) => a + b, 0), KEYS);
  expect((await all((node) => node.keys('*'))).flat().sort(), NAMES);
  const scanned = await all(async (node) => {
    const found = [];
    for await (const page of node.scanIterator({ COUNT: 50 })) found.push(...[page].flat());
    return found;
  });
  expect([...new Set(scanned.flat())].sort(), NAMES);
  expect(await client.mGet(['{t}a', '{t}b']), [null, null]);
  expect(await client.multi().set('{t}a', '1').incr('{t}a').exec(), ['OK', 2]);
  await say('restart');
  await findAgain((key, value) => client.set(key, value));
  await say('settled');
  await each(KEYS, async (i) => expect(await client.get(`again:${i}`), String(i)));
  await client.destroy();
}

const [part, port] = process.argv.slice(2);
const session = { ioredis, 'node-redis': nodeRedis }[part];
session(Number(port)).then(
  () => {
    console.log('passed');
    process.exit(0);
  },
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
