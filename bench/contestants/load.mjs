// Sends requests of one kind for a while, from a process of its own; prints what came of it as one line of JSON.
import { text } from 'node:stream/consumers';
import autocannon from 'autocannon';

const { url, bodies, connections, seconds, headers } = JSON.parse(await text(process.stdin));
const times = [];
let at = 0;
const running = autocannon({
  url,
  connections,
  duration: seconds,
  requests: [
    {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...headers },
      setupRequest: (request) => ({ ...request, body: bodies[at++ % bodies.length] }),
    },
  ],
});
running.on('response', (_client, _status, _bytes, ms) => times.push(ms));
const result = await running;
times.sort((a, b) => a - b);
const percentile = (share) =>
  times[Math.min(times.length - 1, Math.floor(times.length * share))] ?? 0;
process.stdout.write(
  JSON.stringify({
    answers: result['2xx'],
    failures: result.errors + result.non2xx,
    p50: percentile(0.5),
    p99: percentile(0.99),
    perSecond: result.requests.average,
  }),
);
