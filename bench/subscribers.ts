import { setTimeout as pause } from 'node:timers/promises';
import { WebSocket } from 'ws';
import type { Bench } from './bench.ts';
import { build, startSweepbook, type Contestant } from './contestants.ts';
import { datasetName, ensureData } from './data.ts';
import { number } from './report.ts';

const followers = 1000;
const changesPerSecond = 100;

interface Delivered {
  readonly latenciesMs: number[];
  readonly cursors: Set<string>;
}

const subscription = `subscription ($dataset: String) { datasetStatusChanged(filter: { dataset: $dataset }) {
  cursor occurredAt dataset { name } badMark { reason } } }`;

/** One follower of one dataset; resolves when the server has taken its subscription. */
async function follow({ url, token }: Contestant, dataset: string, told: Delivered) {
  const socket = new WebSocket(url.replace(/^http/, 'ws'), 'graphql-transport-ws');
  await new Promise<void>((resolve, reject) => {
    socket.once('error', reject);
    socket.once('open', () =>
      socket.send(
        JSON.stringify({
          type: 'connection_init',
          payload: { Authorization: `Bearer ${token}` },
        }),
      ),
    );
    socket.on('message', (data: Buffer) => {
      const message = JSON.parse(data.toString()) as Message;
      if (message.type === 'connection_ack') {
        const payload = { query: subscription, variables: { dataset } };
        socket.send(JSON.stringify({ id: '1', type: 'subscribe', payload }));
        resolve();
      } else if (message.type === 'ping') {
        socket.send('{"type":"pong"}');
      } else if (message.type === 'next' && message.payload?.data) {
        const { cursor, occurredAt } = message.payload.data.datasetStatusChanged;
        told.latenciesMs.push(Date.now() - Date.parse(occurredAt));
        told.cursors.add(cursor);
      }
    });
  });
  return socket;
}

interface Message {
  readonly type: string;
  readonly payload?: {
    readonly data?: {
      readonly datasetStatusChanged: { readonly cursor: string; readonly occurredAt: string };
    };
  };
}

async function change({ url, token }: Contestant, dataset: string): Promise<void> {
  const response = await fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json', authorization: `Bearer ${token}` },
    body: JSON.stringify({
      query: 'mutation ($input: BadMarkInput!) { markDatasetBad(input: $input) { changed } }',
      variables: { input: { dataset, reason: `measured at ${Date.now()}` } },
    }),
  });
  const answer = await response.text();
  if (!answer.includes('"changed":true')) throw new Error(answer.slice(0, 300));
}

/** 1,000 followers, each of its own dataset; 100 changes a second, by GraphQL. */
export const subscribers: Bench = async ({ cluster, options }) => {
  build();
  const size = { datasets: followers, filesEach: 1 };
  const database = await ensureData(cluster, size, 'subscribers');
  const server = await startSweepbook('sweepbook', cluster.urlOf(database));
  const told: Delivered = { latenciesMs: [], cursors: new Set() };
  const sockets: WebSocket[] = [];
  const seconds = Math.min(followers / changesPerSecond, options.seconds * 2);
  const changes = seconds * changesPerSecond;
  let cpuMs = 0;
  try {
    for (let at = 0; at < followers; at += 50) {
      const some = Array.from({ length: 50 }, (_, i) => follow(server, datasetName(at + i), told));
      sockets.push(...(await Promise.all(some)));
    }
    await pause(1000);
    cpuMs = server.cpuMs();
    const begun = performance.now();
    const asked: Promise<void>[] = [];
    for (let at = 0; at < changes; at++) {
      const due = begun + (at * 1000) / changesPerSecond;
      await pause(Math.max(0, due - performance.now()));
      asked.push(change(server, datasetName(at)));
    }
    await Promise.all(asked);
    for (let waited = 0; told.cursors.size < changes && waited < 10_000; waited += 50) {
      await pause(50);
    }
    cpuMs = server.cpuMs() - cpuMs;
  } finally {
    for (const socket of sockets) socket.terminate();
    await server.close();
    await cluster.sql('postgres', `drop database "${database}" with (force)`);
  }
  const sorted = told.latenciesMs.toSorted((a, b) => a - b);
  const percentile = (share: number) => sorted[Math.floor((sorted.length - 1) * share)] ?? 0;
  return {
    name: 'subscribers',
    title: `${followers.toLocaleString('en')} subscribers, ${changesPerSecond} changes of state a second`,
    about: [
      `Each follows one dataset by WebSocket; ${changes} changes by GraphQL in ${seconds} s. From the moment that the event was ` +
        'written, before its commit, to its arrival; the clients and PostgreSQL run on the same cores. ' +
        `The server used ${number(cpuMs / seconds / 10, 0)} % of a core.`,
    ],
    columns: ['p50 ms', 'p99 ms', 'most ms', 'lost'],
    rows: [
      [
        number(percentile(0.5), 0),
        number(percentile(0.99), 0),
        number(percentile(1), 0),
        changes - told.cursors.size,
      ],
    ],
  };
};
