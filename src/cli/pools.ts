import type { Command } from 'commander';
import { addNoun, addVerb, runs, type Context } from './command.ts';
import { humanBytes } from './table.ts';

interface Pool {
  readonly name: string;
  readonly site: string;
  readonly volume: string;
  readonly isConfigured: boolean;
  readonly protocols: readonly string[];
  readonly sizeLimit: number;
  readonly usedBytes: number;
  readonly pinnedBytes: number;
  readonly onlineCount: number;
}

const query = `query Pools { pools { name site volume isConfigured protocols sizeLimit usedBytes pinnedBytes onlineCount
  pinSeconds mostPinSeconds fileLimit roles } }`;

export function addPoolCommands(program: Command): void {
  const noun = addNoun(program, 'pool', 'volumes that files are staged into, for reading');
  runs(addVerb(noun, 'list', 'all pools, and how full they are'), listPools);
}

async function listPools({ client, output }: Context): Promise<void> {
  const { pools } = await client.call<{ pools: readonly Pool[] }>(query);
  await output.list(pools, [
    { title: 'NAME', value: (pool) => pool.name },
    { title: 'SITE', value: (pool) => pool.site },
    { title: 'VOLUME', value: (pool) => pool.volume },
    { title: 'STATE', value: (pool) => (pool.isConfigured ? 'in use' : 'out of use') },
    { title: 'PROTOCOLS', value: (pool) => pool.protocols.join(' ').toLowerCase() },
    { title: 'FILES', value: (pool) => pool.onlineCount, align: 'right' },
    { title: 'USED', value: (pool) => humanBytes(pool.usedBytes), align: 'right' },
    { title: 'PINNED', value: (pool) => humanBytes(pool.pinnedBytes), align: 'right' },
    { title: 'LIMIT', value: (pool) => humanBytes(pool.sizeLimit), align: 'right' },
  ]);
}
