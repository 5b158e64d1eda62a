import { createHash } from 'node:crypto';
import { openCluster, ensureData, datasetName } from './data.ts';
import { startSweepbook } from './contestants.ts';
const t0 = performance.now();
const cluster = await openCluster(false);
try {
  const url = cluster.urlOf(await ensureData(cluster, { datasets: 1, filesEach: 1_000_000 }));
  console.log('filled', Math.round(performance.now() - t0));
  const server = await startSweepbook('sweepbook', url);
  try {
    const before = server.rssBytes();
    let most = 0;
    const timer = setInterval(() => (most = Math.max(most, server.rssBytes())), 50);
    const begun = performance.now();
    const response = await fetch(server.url.replace(/\/graphql$/, `/export/datasets/${datasetName(0)}/manifest`), { headers: { 'accept-encoding': 'identity' } });
    let lines = 0, bytes = 0, tail = '';
    for await (const chunk of response.body!) {
      bytes += chunk.length;
      for (let at = chunk.indexOf(10); at >= 0; at = chunk.indexOf(10, at + 1)) lines++;
      tail = (tail + Buffer.from(chunk).toString('latin1')).slice(-300);
    }
    clearInterval(timer);
    console.log(response.status, { lines, bytes, ms: Math.round(performance.now() - begun), beforeMB: before / 1e6, mostMB: most / 1e6 }, tail.slice(tail.indexOf('{"end"')));
  } finally { await server.close(); }
} finally { await cluster.close(); }
process.exit(0);
