// Sessions of Node clients: session.js PART PORT, with NODE_PATH naming where the packages are.
//
// Prints "passed" at the end, or fails with a stack. PART is ioredis, node-redis or valkey-glide.
'use strict';

const assert = require('node:assert');
const { setTimeout: sleep } = require('node:timers/promises');

const expect = assert.deepStrictEqual;
const BINARY = Buffer.from(Array.from({ length: 256 * 400 }, (_, index) => index % 256));

// Waits until a key is gone; its deadline has to pass by itself.
async function gone(read) {
  for (let tries = 0; tries < 2000; tries += 1) {
    if ((await read()) === null) return;
    await sleep(10);
  }
  assert.fail('a deadline does not pass');
}

async function ioredisStrings(client) {
  expect(await client.set('a', '1'), 'OK');
  expect(await client.get('a'), '1');
  expect(await client.get('none'), null);
  expect(await client.incrby('a', 41), 42);
  expect(await client.set('a', '2', 'NX'), null);
  expect(await client.set('a', '2', 'EX', 100, 'XX', 'GET'), '42');
  expect(await client.ttl('a'), 100);
  expect(await client.mset({ x: '1', y: '2' }), 'OK');
  expect(await client.mget('x', 'none', 'y'), ['1', null, '2']);
  expect(await client.getset('x', '3'), '1');
  expect(await client.append('x', '45'), 3);
  expect(await client.getrange('x', 1, -1), '45');
  expect(await client.incrbyfloat('f', '1.25'), '1.25');
  expect(await client.setbit('bits', 7, 1), 0);
  expect(await client.bitcount('bits'), 1);
  expect(await client.getdel('f'), '1.25');
  expect(await client.set('binary', BINARY), 'OK');
  assert(BINARY.equals(await client.getBuffer('binary')), 'the value came back changed');
  expect(await client.psetex('short', 30, 'v'), 'OK');
  await gone(() => client.get('short'));
  await assert.rejects(client.incr('binary'), /ERR value is not an integer/);
  await assert.rejects(client.call('NOPE'), /ERR unknown command/);
}

async function ioredisPipelines(client) {
  const pipeline = client.pipeline();
  for (let number = 0; number < 500; number += 1) {
    pipeline.set(`p:${number}`, number).incr(`p:${number}`);
  }
  const replies = await pipeline.exec();
  expect(replies.length, 1000);
  replies.forEach(([error]) => expect(error, null));
  expect(replies[999][1], 500);
  const found = await Promise.all(Array.from({ length: 200 }, (_, i) => client.get(`p:${i}`)));
  expect(found, Array.from({ length: 200 }, (_, i) => String(i + 1)));
}

async function ioredisTransactions(client) {
  const replies = await client.multi().set('t', '1').incr('t').get('t').exec();
  expect(replies, [[null, 'OK'], [null, 2], [null, '2']]);
  await client.watch('t');
  const other = client.duplicate();
  await other.set('t', '9');
  expect(await client.multi().set('t', '1').exec(), null);
  await client.watch('t');
  await client.unwatch();
  await other.set('t', '10');
  expect(await client.multi().get('t').exec(), [[null, '10']]);
  await client.multi({ pipeline: false });
  expect(await client.set('t', '11'), 'QUEUED');
  expect(await client.discard(), 'OK');
  expect(await client.get('t'), '10');
  await other.quit();
}

async function ioredisKeys(client) {
  const found = new Set();
  for await (const keys of client.scanStream({ match: 'p:*', count: 50 })) {
    keys.forEach((key) => found.add(key));
  }
  expect(found.size, 500);
  expect(await client.rename('t', 'u'), 'OK');
  expect(await client.copy('u', 'v'), 1);
  expect(await client.type('v'), 'string');
  expect(await client.unlink('u', 'v', 'none'), 2);
  await client.select(3);
  expect(await client.dbsize(), 0);
  await client.set('there', '1');
  await client.select(0);
  expect(await client.exists('there'), 0);
}

async function ioredis(port) {
  const Redis = require('ioredis');
  const client = new Redis({ port, enableAutoPipelining: true, connectionName: 'session' });
  await client.flushall();
  expect(await client.ping(), 'PONG');
  expect(await client.client('GETNAME'), 'session');
  await ioredisStrings(client);
  await ioredisPipelines(client);
  await ioredisTransactions(client);
  await ioredisKeys(client);
  await client.quit();
}

async function nodeRedisSession(client, other, WatchError) {
  await client.flushAll();
  expect(await client.ping(), 'PONG');
  expect(await client.set('a', '1', { EX: 100 }), 'OK');
  expect(await client.get('a'), '1');
  expect(await client.ttl('a'), 100);
  expect(await client.get('none'), null);
  expect(await client.set('a', '2', { NX: true }), null);
  expect(await client.incrBy('a', 41), 42);
  expect(await client.mSet({ x: '1', y: '2' }), 'OK');
  expect(await client.mGet(['x', 'none', 'y']), ['1', null, '2']);
  expect(await client.getEx('x', { type: 'EX', value: 50 }), '1');
  expect(await client.getDel('x'), '1');
  expect(await client.setBit('bits', 3, 1), 0);
  expect(await client.bitCount('bits'), 1);
  expect(await client.expire('y', 50, 'NX'), 1);
  expect(await client.persist('y'), 1);
  expect(await client.set('binary', BINARY), 'OK');
  expect(await client.strLen('binary'), BINARY.length);
  await assert.rejects(client.incr('binary'), /ERR value is not an integer/);
  await assert.rejects(client.sendCommand(['NOPE']), /ERR unknown command/);
  // Commands of one turn of the event loop go out together.
  const sets = Array.from({ length: 500 }, (_, i) => client.set(`p:${i}`, String(i)));
  expect(new Set(await Promise.all(sets)), new Set(['OK']));
  expect(await client.multi().set('t', '1').incr('t').get('t').exec(), ['OK', 2, '2']);
  await client.watch('t');
  await other.set('t', '9');
  await assert.rejects(client.multi().set('t', '1').exec(), WatchError);
  expect(await client.get('t'), '9');
  const found = new Set();
  for await (const keys of client.scanIterator({ MATCH: 'p:*', COUNT: 50 })) {
    for (const key of keys) found.add(key);
  }
  expect(found.size, 500);
  expect(await client.copy('t', 'u'), 1);
  expect(await client.type('u'), 'string');
  await client.select(2);
  expect(await client.dbSize(), 0);
  await client.select(0);
}

async function nodeRedis(port) {
  const { createClient, WatchError } = require('redis');
  for (const RESP of [2, 3]) {
    const options = { RESP, socket: { host: '127.0.0.1', port }, name: 'session' };
    const [client, other] = [createClient(options), createClient(options)];
    await Promise.all([client.connect(), other.connect()]);
    expect(await client.clientGetName(), 'session');
    await nodeRedisSession(client, other, WatchError);
    await Promise.all([client.close(), other.close()]);
  }
}

async function glideTransactions(client, other, glide) {
  const batch = new glide.Batch(true).set('t', '1').incr('t').get('t');
  expect(await client.exec(batch, true), ['OK', 2, '2']);
  expect(await client.watch(['t']), 'OK');
  await other.set('t', '9');
  expect(await client.exec(new glide.Batch(true).set('t', '1'), true), null);
  const pipeline = new glide.Batch(false);
  for (let number = 0; number < 500; number += 1) pipeline.set(`p:${number}`, String(number));
  expect(new Set(await client.exec(pipeline, true)), new Set(['OK']));
}

async function glideSession(client, other, glide) {
  expect(await client.flushall(), 'OK');
  expect(await client.ping(), 'PONG');
  expect(await client.clientGetName(), 'session');
  expect(await client.set('a', '1'), 'OK');
  expect(await client.get('a'), '1');
  expect(await client.get('none'), null);
  expect(await client.incrBy('a', 41), 42);
  const seconds = { type: glide.TimeUnit.Seconds, count: 100 };
  expect(await client.set('a', '2', { expiry: seconds, returnOldValue: true }), '42');
  expect(await client.ttl('a'), 100);
  expect(await client.set('a', '2', { conditionalSet: 'onlyIfDoesNotExist' }), null);
  expect(await client.mset({ x: '1', y: '2' }), 'OK');
  expect(await client.mget(['x', 'none', 'y']), ['1', null, '2']);
  expect(await client.incrByFloat('f', 1.25), 1.25);
  expect(await client.append('x', '23'), 3);
  expect(await client.getrange('x', 1, -1), '23');
  expect(await client.setbit('bits', 7, 1), 0);
  expect(await client.bitcount('bits'), 1);
  expect(await client.expire('y', 50), true);
  expect(await client.persist('y'), true);
  expect(await client.getdel('x'), '123');
  expect(await client.set('binary', BINARY), 'OK');
  const back = await client.get('binary', { decoder: glide.Decoder.Bytes });
  assert(BINARY.equals(back), 'the value came back changed');
  await assert.rejects(client.incr('binary'), /not an integer/);
  await assert.rejects(client.customCommand(['NOPE']), /unknown command/i);
  await glideTransactions(client, other, glide);
  const found = new Set();
  let cursor = '0';
  do {
    const [next, keys] = await client.scan(cursor, { match: 'p:*', count: 50 });
    keys.forEach((key) => found.add(key));
    cursor = next;
  } while (cursor !== '0');
  expect(found.size, 500);
  expect(await client.copy('t', 'u'), true);
  expect(await client.select(1), 'OK');
  expect(await client.dbsize(), 0);
}

async function valkeyGlide(port) {
  const glide = require('@valkey/valkey-glide');
  for (const protocol of [glide.ProtocolVersion.RESP2, glide.ProtocolVersion.RESP3]) {
    const addresses = [{ host: '127.0.0.1', port }];
    const options = { addresses, protocol, clientName: 'session', requestTimeout: 20000 };
    const client = await glide.GlideClient.createClient(options);
    const other = await glide.GlideClient.createClient(options);
    await glideSession(client, other, glide);
    client.close();
    other.close();
  }
}

const PARTS = { ioredis, 'node-redis': nodeRedis, 'valkey-glide': valkeyGlide };

async function main() {
  const [part, port] = process.argv.slice(2);
  assert(part in PARTS, `there is no part ${part}`);
  await PARTS[part](Number(port));
  console.log('passed');
}

main().then(
  () => process.exit(0),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
